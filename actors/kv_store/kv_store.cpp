// Lists of blocks per sequence over the counted pool.
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
  block_grant granted{need.id, {}};
  if (need.blocks < 1 || need.blocks > pool_.free()) return granted;
  granted.blocks.reserve(static_cast<std::size_t>(need.blocks));
  for (std::int32_t i = 0; i < need.blocks; ++i)
    if (const auto block = pool_.take()) granted.blocks.push_back(*block);
  auto& list = held_[need.id];
  list.insert(list.end(), granted.blocks.begin(), granted.blocks.end());
  return granted;
}

std::int32_t kv_store::release(generation_id id) {
  const auto at = held_.find(id);
  if (at == held_.end()) return 0;
  std::int32_t freed = 0;
  for (auto block = at->second.rbegin(); block != at->second.rend(); ++block) freed += pool_.release(*block) ? 1 : 0;
  held_.erase(at);
  return freed;
}

result<void> kv_store::check() const {
  if (auto sound = pool_.check(); !sound) return sound;
  std::vector<std::int32_t> users(static_cast<std::size_t>(pool_.total()), 0);
  for (const auto& [id, blocks] : held_) {
    if (blocks.empty()) return error{errc::internal, "a sequence is listed with no blocks", {}};
    for (const std::int32_t block : blocks) {
      if (block < 0 || block >= pool_.total()) return error{errc::internal, "a block number is out of range", {}};
      ++users[static_cast<std::size_t>(block)];
    }
  }
  for (std::int32_t block = 0; block < pool_.total(); ++block)
    if (users[static_cast<std::size_t>(block)] != pool_.count(block))
      return error{errc::internal, "block " + std::to_string(block) + " is counted wrongly", {}};
  return {};
}

std::string kv_store::draw() const {
  std::string lines = std::to_string(free()) + " free of " + std::to_string(total()) + "\n";
  for (const auto& [id, blocks] : held_) {
    lines += "  " + std::to_string(id) + ":";
    for (const std::int32_t block : blocks) lines += " " + std::to_string(block);
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

}  // namespace troupe::actors
