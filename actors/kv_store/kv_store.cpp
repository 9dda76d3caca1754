// Lists of blocks per sequence over the counted pool and the tree of what was computed.
#include "actors/kv_store/kv_store.hpp"

#include <algorithm>

namespace troupe::actors {

kv_store::kv_store(std::int32_t blocks, std::int32_t block_tokens, std::int32_t kept, std::int32_t host_blocks)
    : block_tokens_(block_tokens), kept_(kept), pool_(blocks), tree_(blocks, block_tokens, host_blocks),
      tier_(tree_, pool_, host_blocks), users_(static_cast<std::size_t>(pool_.total()), 0) {}

std::int32_t kv_store::full_blocks(const computed_rows& what, const holding& of) const {
  if (!what.tokens) return 0;
  const auto rows = std::min(what.rows, static_cast<std::int32_t>(what.tokens->size()));
  return std::min(rows / block_tokens_, static_cast<std::int32_t>(of.blocks.size()));
}

std::span<const std::int32_t> kv_store::tokens_of(const computed_rows& what, std::int32_t block) const {
  const auto width = static_cast<std::size_t>(block_tokens_);
  return std::span(*what.tokens).subspan(static_cast<std::size_t>(block) * width, width);
}

void kv_store::offer(const computed_rows& what) {
  const auto at = held_.find(what.id);
  if (at == held_.end()) return;
  holding& of = at->second;
  const std::int32_t full = full_blocks(what, of);
  while (of.offered < full) {
    const auto i = static_cast<std::size_t>(of.offered);
    const std::int32_t parent = i == 0 ? memory::prefix_tree::none : of.blocks[i - 1];
    // Refused where another computed the same: its block stands there, and to hang ours from a block that we do not use
    // would let the tree evict that one under us.
    const auto tokens = tokens_of(what, of.offered);
    if (tree_.insert(parent, tokens, of.blocks[i])) pool_.share(of.blocks[i]);
    else if (!adopt(tree_.find(parent, tokens), of.blocks[i])) return;
    ++of.offered;
  }
}

/// What is a copy only, a sequence has computed anew. False: that is not so, or the copy is on its way.
bool kv_store::adopt(std::int32_t copy, std::int32_t block) {
  if (!tree_.is_copy(copy) || !tree_.rests(copy) || tree_.holds(block)) return false;
  tier_.replace(copy, block);
  return true;
}

/// The path in the tree that spells the rows; what of it was missing, the sequence's blocks are now.
std::vector<std::int32_t> kv_store::keep(const computed_rows& what, const holding& of) {
  std::vector<std::int32_t> path;
  const std::int32_t full = full_blocks(what, of);
  for (std::int32_t i = 0; i < full; ++i) {
    const std::int32_t parent = path.empty() ? memory::prefix_tree::none : path.back();
    std::int32_t block = tree_.find(parent, tokens_of(what, i));
    if (block == memory::prefix_tree::none || tree_.is_copy(block)) {
      const std::int32_t copy = std::exchange(block, of.blocks[static_cast<std::size_t>(i)]);
      // One that others read too was forgotten with a failure. They need not hold what it would hang from now.
      if (pool_.count(block) > 1) break;
      if (tree_.insert(parent, tokens_of(what, i), block)) pool_.share(block);
      else if (!adopt(copy, block)) break;
    }
    path.push_back(block);
  }
  return path;
}

void kv_store::spoil(const holding& of) {
  for (const std::int32_t block : of.blocks) tier_.forget(block);
}

void kv_store::unuse(const holding& of) {
  for (const std::int32_t block : of.blocks) in_use_ -= --users_[static_cast<std::size_t>(block)] == 0 ? 1 : 0;
}

std::int32_t kv_store::release(const block_release& what) {
  const std::int32_t before = free();
  if (!withdraw(what.last.id)) {
    const auto at = held_.find(what.last.id);
    if (at == held_.end()) return 0;
    const holding of = std::move(at->second);
    held_.erase(at);
    unuse(of);
    give_back(of, what);
  }
  make_room();
  return free() - before;
}

void kv_store::give_back(const holding& of, const block_release& what) {
  if (what.spoiled) spoil(of);
  const auto path = what.spoiled ? std::vector<std::int32_t>() : keep(what.last, of);
  for (auto block = of.blocks.rbegin(); block != of.blocks.rend(); ++block) {
    pool_.release(*block);
    if (tree_.holds(*block) && pool_.count(*block) == 1) tree_.rest(*block);
  }
  // The whole path was used now, whoever computed it; from its end, so that leaves go first.
  for (auto block = path.rbegin(); block != path.rend(); ++block)
    if (tree_.rests(*block)) tree_.rest(*block);
  longest_ = std::max(longest_, static_cast<std::int32_t>(of.blocks.size()));
  while (tree_.resting() > std::max(kept_, longest_)) tier_.drop_oldest();
}

result<void> kv_store::check() const {
  if (auto sound = pool_.check(); !sound) return sound;
  if (auto sound = tree_.check(); !sound) return sound;
  if (auto sound = tier_.check(); !sound) return sound;
  std::vector<std::int32_t> lists(users_.size(), 0), users(users_.size(), 0);
  const auto list = [&](const holding& of, std::vector<std::int32_t>& in) {
    for (const std::int32_t block : of.blocks)
      if (block >= 0 && block < total()) ++in[static_cast<std::size_t>(block)];
  };
  for (const auto& [id, of] : held_) {
    if (of.blocks.empty()) return error{errc::internal, "a sequence is listed with no blocks", {}};
    list(of, users);
  }
  lists = users;
  for (const auto& [order, one] : restores_) list(one.of, lists);
  const auto wrong = [](std::int32_t block, const char* how) {
    return error{errc::internal, "block " + std::to_string(block) + how, {}};
  };
  std::int32_t listed = 0, leaving = 0, in_use = 0;
  for (std::int32_t block = 0; block < pool_.total(); ++block) {
    const auto i = static_cast<std::size_t>(block);
    const std::int32_t counted = lists[i] + (tree_.holds(block) ? 1 : 0);
    if (users[i] != users_[i]) return wrong(block, " has other users than it is said to have");
    leaving += counted == 0 && pool_.count(block) == 1 ? 1 : 0;
    if (counted != pool_.count(block) && counted != 0) return wrong(block, " is counted wrongly");
    if (tree_.rests(block) != (tree_.holds(block) && lists[i] == 0))
      return wrong(block, " rests while it is used, or does not when it is not");
    listed += lists[i] > 0 ? 1 : 0;
    in_use += users[i] > 0 ? 1 : 0;
  }
  if (leaving != tier_.leaving()) return error{errc::internal, "blocks with a user whom nobody knows", {}};
  if (in_use != in_use_) return error{errc::internal, "blocks in use are counted wrongly", {}};
  if (listed + cached() + leaving + pool_.free() != total())
    return error{errc::internal, "blocks in use, cached, leaving and free are not all blocks", {}};
  if (!waiting_.empty() && leaving == 0 && restores_.empty())
    return error{errc::internal, "a need waits for nothing", {}};
  return {};
}

std::string kv_store::draw() const {
  std::string lines = std::to_string(pool_.free()) + " free and " + std::to_string(cached()) + " cached of " +
                      std::to_string(total()) + ", " + std::to_string(cached_on_host()) + " on the host, " +
                      std::to_string(tier_.leaving()) + " leaving\n";
  for (const auto& [id, of] : held_) {
    lines += "  " + std::to_string(id) + ":";
    for (const std::int32_t block : of.blocks) lines += " " + std::to_string(block) + (tree_.holds(block) ? "*" : "");
    lines += "\n";
  }
  return lines;
}

}  // namespace troupe::actors
