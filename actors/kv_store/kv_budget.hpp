// How many KV blocks to make, and how many of them to keep for prompts to come. Pure; knows no device and no block.
#pragma once

#include <cstdint>

#include <troupe/result.hpp>

namespace troupe::actors {

/// What there is, and what can be used at most.
struct kv_budget {
  std::int64_t wanted_bytes = 0;     ///< 0: kv_share of `available_bytes`
  std::int64_t available_bytes = 0;  ///< of the machine, now
  std::int64_t block_bytes = 1;
  std::int32_t block_tokens = 16;
  std::int32_t context_length = 0;
  std::int32_t max_sequences = 1;
};
inline constexpr double kv_share = 0.4;
/// What a CPU keeps for prompts to come unless it is told how much memory K and V may take: a laptop has other uses.
inline constexpr std::int64_t kept_kv_bytes = std::int64_t{2} << 30;

/// Never above what max_sequences full contexts can use; out_of_memory when not even one block fits.
result<std::int32_t> kv_blocks(const kv_budget& budget);
/// How many of them may rest: all where the bytes were asked for, else kept_kv_bytes of them.
std::int32_t kept_blocks(const kv_budget& budget, std::int32_t blocks);

}  // namespace troupe::actors
