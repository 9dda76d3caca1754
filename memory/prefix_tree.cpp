// Sorted children below, lists of those at rest across. Knows no sequence.
#include "memory/prefix_tree.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace troupe::memory {
namespace {

error broken(std::int32_t block, const char* what) {
  return {errc::internal, "prefix tree: block " + std::to_string(block) + " " + what, {}};
}

}  // namespace

prefix_tree::prefix_tree(std::int32_t blocks, std::int32_t block_tokens, std::int32_t copies)
    : block_tokens_(std::max(1, block_tokens)), blocks_(std::max(0, blocks)),
      nodes_(index(blocks_ + std::max(0, copies))) {}

/// Of the first child that is not before `tokens`.
std::size_t prefix_tree::place_of(std::int32_t parent, std::span<const std::int32_t> tokens) const {
  const auto& children = children_of(parent);
  const auto at = std::lower_bound(children.begin(), children.end(), tokens, [this](std::int32_t child, auto wanted) {
    return std::lexicographical_compare(nodes_[index(child)].tokens.begin(), nodes_[index(child)].tokens.end(),
                                        wanted.begin(), wanted.end());
  });
  return static_cast<std::size_t>(at - children.begin());
}

bool prefix_tree::spells(std::int32_t block, std::span<const std::int32_t> tokens) const {
  return std::equal(tokens.begin(), tokens.end(), nodes_[index(block)].tokens.begin(),
                    nodes_[index(block)].tokens.end());
}

std::int32_t prefix_tree::find(std::int32_t parent, std::span<const std::int32_t> tokens) const {
  if (parent != none && !holds(parent)) return none;
  const auto& children = children_of(parent);
  const std::size_t at = place_of(parent, tokens);
  return at < children.size() && spells(children[at], tokens) ? children[at] : none;
}

std::vector<std::int32_t> prefix_tree::match(std::span<const std::int32_t> tokens, std::int32_t most) const {
  std::vector<std::int32_t> path;
  const auto width = static_cast<std::size_t>(block_tokens_);
  std::int32_t at = none;
  while (static_cast<std::int32_t>(path.size()) < most && tokens.size() >= width) {
    at = find(at, tokens.first(width));
    if (at == none) break;
    path.push_back(at);
    tokens = tokens.subspan(width);
  }
  return path;
}

bool prefix_tree::insert(std::int32_t parent, std::span<const std::int32_t> tokens, std::int32_t block) {
  if (!known(block) || holds(block) || (parent != none && !holds(parent))) return false;
  if (tokens.size() != index(block_tokens_) || find(parent, tokens) != none) return false;
  auto& children = children_of(parent);
  children.insert(children.begin() + static_cast<std::ptrdiff_t>(place_of(parent, tokens)), block);
  node& one = nodes_[index(block)];
  one.parent = parent;
  one.held = true;
  one.tokens.assign(tokens.begin(), tokens.end());
  ++size_;
  return true;
}

void prefix_tree::unlink(std::int32_t block) {
  node& one = nodes_[index(block)];
  rest_list& list = list_of(block);
  (one.older == none ? list.oldest : nodes_[index(one.older)].newer) = one.newer;
  (one.newer == none ? list.newest : nodes_[index(one.newer)].older) = one.older;
  one.older = one.newer = none;
  one.resting = false;
  --list.size;
}

void prefix_tree::rest(std::int32_t block) {
  if (!holds(block)) return;
  node& one = nodes_[index(block)];
  rest_list& list = list_of(block);
  if (one.resting) unlink(block);
  one.older = list.newest;
  (list.newest == none ? list.oldest : nodes_[index(list.newest)].newer) = block;
  list.newest = block;
  one.resting = true;
  ++list.size;
}

void prefix_tree::wake(std::int32_t block) {
  if (rests(block)) unlink(block);
}

void prefix_tree::drop(std::int32_t block) {
  node& one = nodes_[index(block)];
  if (one.resting) unlink(block);
  one.held = false;
  one.parent = none;
  one.tokens = {};
  one.children = {};
  --size_;
}

bool prefix_tree::move(std::int32_t from, std::int32_t to) {
  if (!holds(from) || !known(to) || holds(to)) return false;
  node& old = nodes_[index(from)];
  children_of(old.parent)[place_of(old.parent, old.tokens)] = to;
  for (const std::int32_t child : old.children) nodes_[index(child)].parent = to;
  node& one = nodes_[index(to)];
  one.parent = old.parent;
  one.held = true;
  one.tokens = std::move(old.tokens);
  one.children = std::move(old.children);
  ++size_;
  drop(from);
  return true;
}

std::vector<std::int32_t> prefix_tree::forget(std::int32_t block) {
  if (!holds(block)) return {};
  const std::int32_t parent = nodes_[index(block)].parent;
  auto& siblings = children_of(parent);
  siblings.erase(siblings.begin() + static_cast<std::ptrdiff_t>(place_of(parent, nodes_[index(block)].tokens)));
  std::vector<std::int32_t> gone{block};
  for (std::size_t i = 0; i < gone.size(); ++i) {
    const std::int32_t one = gone[i];
    gone.insert(gone.end(), nodes_[index(one)].children.begin(), nodes_[index(one)].children.end());
    drop(one);
  }
  return gone;
}

/// `place`: of each in the list of its kind, -1 for those not at rest.
result<void> prefix_tree::check_lists(std::vector<std::int32_t>& place) const {
  for (const rest_list& list : lists_) {
    std::int32_t rested = 0;
    for (std::int32_t at = list.oldest, before = none; at != none; before = at, at = nodes_[index(at)].newer) {
      if (!rests(at) || &list_of(at) != &list || nodes_[index(at)].older != before || rested >= list.size)
        return broken(at, "breaks the list of those at rest");
      place[index(at)] = rested++;
    }
    if (rested != list.size) return broken(list.newest, "ends the list of those at rest too early");
  }
  return {};
}

result<void> prefix_tree::check() const {
  std::vector<std::int32_t> place(nodes_.size(), -1);
  if (auto r = check_lists(place); !r) return r;
  std::int32_t seen = 0;
  const auto sound = [&](std::int32_t parent) -> result<void> {
    const auto& children = children_of(parent);
    for (std::size_t i = 0; i < children.size(); ++i) {
      const std::int32_t child = children[i];
      if (!holds(child) || nodes_[index(child)].parent != parent) return broken(child, "is not its parent's");
      if (nodes_[index(child)].tokens.size() != index(block_tokens_)) return broken(child, "is not full");
      if (i > 0 && !(nodes_[index(children[i - 1])].tokens < nodes_[index(child)].tokens))
        return broken(child, "is out of order");
      const bool alike = parent != none && is_copy(parent) == is_copy(child);
      if (parent != none && is_copy(parent) && !alike) return broken(child, "hangs from a copy");
      if (alike && rests(parent) && !rests(child)) return broken(child, "is in use under one at rest");
      if (alike && rests(parent) && place[index(parent)] < place[index(child)])
        return broken(child, "would outlive its parent");
      ++seen;
    }
    return {};
  };
  if (auto r = sound(none); !r) return r;
  for (std::int32_t block = 0; known(block); ++block)
    if (holds(block))
      if (auto r = sound(block); !r) return r;
  if (seen != size_) return error{errc::internal, "prefix tree: a node is lost", {}};
  return {};
}

}  // namespace troupe::memory
