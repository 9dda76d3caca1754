// Bytes to blocks.
#include "actors/kv_store/kv_budget.hpp"

#include <algorithm>
#include <limits>
#include <string>

namespace troupe::actors {

result<std::int32_t> kv_blocks(const kv_budget& budget) {
  const std::int64_t bytes = budget.wanted_bytes > 0
                                 ? budget.wanted_bytes
                                 : static_cast<std::int64_t>(static_cast<double>(budget.available_bytes) * kv_share);
  const std::int64_t per_context =
      (std::int64_t{budget.context_length} + budget.block_tokens - 1) / budget.block_tokens;
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
  return static_cast<std::int32_t>(
      std::min<std::int64_t>(blocks, kept_kv_bytes / std::max<std::int64_t>(1, budget.block_bytes)));
}

}  // namespace troupe::actors
