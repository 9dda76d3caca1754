// Lists of blocks per sequence over the counted pool and the tree of what was computed.
#include "actors/kv_store/kv_store.hpp"

#include <algorithm>
#include <limits>

namespace troupe::actors {

std::vector<block_grant> kv_store::reserve(const std::vector<block_need>& needs) {
  std::vector<block_grant> grants;
  grants.reserve(needs.size());
  for (const block_need& need : needs) grants.push_back(grant(need));
  return grants;
}

block_grant kv_store::grant(const block_need& need) {
  block_grant granted{need.id, {}, 0};
  if (need.blocks < 1) return granted;
  if (need.tokens && !need.tokens->empty() && !held_.contains(need.id)) {
    const auto most = static_cast<std::int32_t>(need.tokens->size() - 1) / block_tokens_;
    granted.blocks = tree_.match(*need.tokens, std::min(most, need.blocks));
  }
  const auto found = static_cast<std::int32_t>(granted.blocks.size());
  const auto woken = static_cast<std::int32_t>(std::count_if(granted.blocks.begin(), granted.blocks.end(),
                                                             [this](std::int32_t block) { return tree_.rests(block); }));
  const std::int32_t fresh = need.blocks - found;
  if (fresh + woken + need.spare > free()) return {need.id, {}, 0};
  for (const std::int32_t block : granted.blocks) {  // before anything is evicted
    tree_.wake(block);
    pool_.share(block);
  }
  for (std::int32_t i = 0; i < fresh; ++i) granted.blocks.push_back(take());
  granted.cached = found * block_tokens_;
  holding& of = held_[need.id];
  of.blocks.insert(of.blocks.end(), granted.blocks.begin(), granted.blocks.end());
  of.offered += found;
  return granted;
}

/// Of at least one that is free or cached.
std::int32_t kv_store::take() {
  if (pool_.free() == 0) pool_.release(tree_.evict());
  return *pool_.take();
}

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
    if (!tree_.insert(parent, tokens_of(what, of.offered), of.blocks[i])) return;
    pool_.share(of.blocks[i]);
    ++of.offered;
  }
}

/// The path in the tree that spells the rows; what of it was missing, the sequence's blocks are now.
std::vector<std::int32_t> kv_store::keep(const computed_rows& what, const holding& of) {
  std::vector<std::int32_t> path;
  const std::int32_t full = full_blocks(what, of);
  for (std::int32_t i = 0; i < full; ++i) {
    const std::int32_t parent = path.empty() ? memory::prefix_tree::none : path.back();
    std::int32_t block = tree_.find(parent, tokens_of(what, i));
    if (block == memory::prefix_tree::none) {
      block = of.blocks[static_cast<std::size_t>(i)];
      // One that others read too was forgotten with a failure. They need not hold what it would hang from now.
      if (pool_.count(block) > 1 || !tree_.insert(parent, tokens_of(what, i), block)) break;
      pool_.share(block);
    }
    path.push_back(block);
  }
  return path;
}

void kv_store::spoil(const holding& of) {
  for (const std::int32_t block : of.blocks)
    for (const std::int32_t gone : tree_.forget(block)) pool_.release(gone);
}

std::int32_t kv_store::release(const block_release& what) {
  const auto at = held_.find(what.last.id);
  if (at == held_.end()) return 0;
  const std::int32_t before = free();
  const holding of = std::move(at->second);
  held_.erase(at);
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
  while (tree_.resting() > std::max(kept_, longest_)) pool_.release(tree_.evict());
  return free() - before;
}

result<void> kv_store::check() const {
  if (auto sound = pool_.check(); !sound) return sound;
  if (auto sound = tree_.check(); !sound) return sound;
  std::vector<std::int32_t> users(static_cast<std::size_t>(pool_.total()), 0);
  for (const auto& [id, of] : held_) {
    if (of.blocks.empty()) return error{errc::internal, "a sequence is listed with no blocks", {}};
    for (const std::int32_t block : of.blocks) {
      if (block < 0 || block >= pool_.total()) return error{errc::internal, "a block number is out of range", {}};
      ++users[static_cast<std::size_t>(block)];
    }
  }
  const auto wrong = [](std::int32_t block, const char* how) {
    return error{errc::internal, "block " + std::to_string(block) + how, {}};
  };
  std::int32_t in_use = 0;
  for (std::int32_t block = 0; block < pool_.total(); ++block) {
    const std::int32_t sequences = users[static_cast<std::size_t>(block)];
    if (sequences + (tree_.holds(block) ? 1 : 0) != pool_.count(block)) return wrong(block, " is counted wrongly");
    if (tree_.rests(block) != (tree_.holds(block) && sequences == 0)) return wrong(block, " rests while it is used, or does not when it is not");
    in_use += sequences > 0 ? 1 : 0;
  }
  if (in_use + cached() + pool_.free() != total()) return error{errc::internal, "blocks in use, cached and free are not all blocks", {}};
  return {};
}

std::string kv_store::draw() const {
  std::string lines = std::to_string(pool_.free()) + " free and " + std::to_string(cached()) + " cached of " + std::to_string(total()) + "\n";
  for (const auto& [id, of] : held_) {
    lines += "  " + std::to_string(id) + ":";
    for (const std::int32_t block : of.blocks) lines += " " + std::to_string(block) + (tree_.holds(block) ? "*" : "");
    lines += "\n";
  }
  return lines;
}

result<std::int32_t> kv_blocks(const kv_budget& budget) {
  const std::int64_t bytes = budget.wanted_bytes > 0
                                 ? budget.wanted_bytes
                                 : static_cast<std::int64_t>(static_cast<double>(budget.available_bytes) * kv_share);
  const std::int64_t per_context = (std::int64_t{budget.context_length} + budget.block_tokens - 1) / budget.block_tokens;
  const std::int64_t usable = std::max<std::int64_t>(1, per_context) * std::max(1, budget.max_sequences);
  const std::int64_t fits = bytes / std::max<std::int64_t>(1, budget.block_bytes);
  const std::int64_t blocks = std::min({fits, usable, std::int64_t{std::numeric_limits<std::int32_t>::max()}});
  if (blocks < 1)
    return error{errc::out_of_memory,
                 "The KV budget of " + std::to_string(bytes) + " bytes is less than one block (" +
                     std::to_string(budget.block_bytes) + " bytes); give more with --kv-bytes.",
                 "kv_bytes"};
  return static_cast<std::int32_t>(blocks);
}

std::int32_t kept_blocks(const kv_budget& budget, std::int32_t blocks) {
  if (budget.wanted_bytes > 0) return blocks;
  return static_cast<std::int32_t>(std::min<std::int64_t>(blocks, kept_kv_bytes / std::max<std::int64_t>(1, budget.block_bytes)));
}

}  // namespace troupe::actors
