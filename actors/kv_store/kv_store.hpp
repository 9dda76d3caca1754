// Which sequence holds which KV blocks, within a fixed budget. Knows no tokens, no device and no plan.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "actors/kv_store/block_grant.hpp"
#include "memory/block_pool.hpp"

namespace troupe::actors {

/// One owner, one thread. A sequence's blocks are in the order of its tokens.
class kv_store {
public:
  explicit kv_store(std::int32_t blocks) : pool_(blocks) {}

  /// In order; each sequence gets all it asks for, or nothing. A need below one block is refused.
  std::vector<block_grant> reserve(const std::vector<block_need>& needs);
  /// Gives back every block of the sequence; how many came free. Unknown: 0.
  std::int32_t release(generation_id id);

  std::int32_t free() const noexcept { return pool_.free(); }
  std::int32_t total() const noexcept { return pool_.total(); }
  std::size_t sequences() const noexcept { return held_.size(); }

  /// Every block in use has exactly as many users as there are lists it is in. Linear.
  result<void> check() const;
  /// One line per sequence and one of totals: what a failing test prints first.
  std::string draw() const;

private:
  block_grant grant(const block_need& need);

  memory::block_pool pool_;
  std::unordered_map<generation_id, std::vector<std::int32_t>> held_;
};

/// How many blocks to make.
struct kv_budget {
  std::int64_t wanted_bytes = 0;     ///< 0: kv_share of `available_bytes`
  std::int64_t available_bytes = 0;  ///< of the machine, now
  std::int64_t block_bytes = 1;
  std::int32_t block_tokens = 16;
  std::int32_t context_length = 0;
  std::int32_t max_sequences = 1;
};
inline constexpr double kv_share = 0.4;

/// Never above what max_sequences full contexts can use; out_of_memory when not even one block fits.
result<std::int32_t> kv_blocks(const kv_budget& budget);

}  // namespace troupe::actors
