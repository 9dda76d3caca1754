// The beginnings of prompts that running sequences are computing right now: who waits starts behind them later instead
// of computing them too. Knows no queue and no blocks.
#pragma once

#include <cstdint>
#include <map>
#include <unordered_map>
#include <vector>

#include "actors/scheduler/planned_sequence.hpp"

namespace troupe::actors {

/// Built anew for each look at the queue: costs a look-up for each sequence added, and for each one asked about one for
/// each length that those added differ in. Hashes find candidates; tokens are compared.
class awaited_prefixes {
public:
  /// For beginnings of fewer than `least_tokens` nobody waits. Where prefixes are not shared, sequences have none.
  awaited_prefixes(std::int32_t block_tokens, std::int32_t least_tokens)
      : width_(block_tokens), least_(blocks_for(least_tokens, block_tokens)) {}

  /// Of each full block of the tokens, with all before it. What is not there of `hashes` yet is appended.
  static void extend_hashes(std::vector<std::uint64_t>& hashes, const std::vector<std::int32_t>& tokens,
                            std::int32_t block_tokens);

  /// It computes at least the block behind those it has offered, unless that is not a whole one of its prompt.
  void add(const planned_sequence& computing);
  /// Whether one of them will compute the beginning of the other's tokens, as far as it has not yet.
  bool contain_beginning_of(const planned_sequence& waiting) const;

  /// So far, to say what it costs.
  std::int64_t look_ups() const noexcept { return look_ups_; }

private:
  std::int32_t width_;
  std::int32_t least_;
  using by_hash = std::unordered_map<std::uint64_t, const planned_sequence*>;
  std::map<std::int32_t, by_hash> by_blocks_;  // their number
  mutable std::int64_t look_ups_ = 0;
};

}  // namespace troupe::actors
