// Byte pair encoding of one word: merges the best-ranked pair of neighbours (the leftmost of equals) until none is
// left. Knows ids and merges, not text. O(n log n) in the length of the word, no recursion. One per thread: it keeps
// scratch memory between words.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "models/tokenizer/merge_table.hpp"

namespace troupe::models {

class word_merger {
public:
  /// `merges` outlives this.
  explicit word_merger(const merge_table& merges) : merges_(merges) {}

  /// Appends the tokens that `symbols` (fewer than 2^32) become. `symbols` is used as scratch.
  void merge(std::span<int32_t> symbols, std::vector<int32_t>& ids);

  /// Pairs looked up and queue entries handled so far: the work done, in a unit that no machine's speed changes.
  uint64_t steps() const noexcept { return steps_; }

private:
  using pair_merge = merge_table::merge;

  struct node {  // of a doubly linked list over the symbols
    int32_t id;
    uint32_t previous;
    uint32_t next;
    pair_merge with_next;
  };

  pair_merge find(int32_t left, int32_t right) {
    ++steps_;
    return merges_.find(left, right);
  }
  void merge_short(std::span<int32_t> symbols, std::vector<int32_t>& ids);
  void merge_long(std::span<const int32_t> symbols, std::vector<int32_t>& ids);
  void fill_list(std::span<const int32_t> symbols);
  void look_up_pair(uint32_t left);
  void join(uint32_t left);

  const merge_table& merges_;
  std::vector<node> list_;
  std::vector<uint64_t> queue_;  // a heap of (rank << 32 | position), least first; entries may be out of date
  uint64_t steps_ = 0;
};

}  // namespace troupe::models
