// The merges of a byte pair encoding: which two neighbouring tokens become which token, and how early.
// Knows ids, not text. Immutable once built; any thread may look up.
#pragma once

#include <cstddef>
#include <cstdint>
#include "models/tokenizer/flat_table.hpp"

namespace troupe::models {

class merge_table {
public:
  static constexpr uint32_t never = UINT32_MAX;

  struct merge {
    uint32_t rank = never;  ///< lower merges first; `never`: the pair does not merge
    int32_t merged = -1;
  };

  enum class insertion { done, duplicate, too_crowded };

  struct slot {
    int32_t left = -1;
    int32_t right = -1;
    merge m;
  };

  /// Room for `count` merges; 32 to 64 bytes each.
  explicit merge_table(size_t count = 0);

  /// As text_index has it.
  flat_table<slot>& slots() noexcept { return slots_; }
  const flat_table<slot>& slots() const noexcept { return slots_; }
  void settle() noexcept;

  /// At most the promised count. `too_crowded`: keys chosen to collide, as no honest file has them.
  insertion insert(int32_t left, int32_t right, merge m);

  /// A few pairs ahead of insert or find: their memory then comes together.
  void prefetch(int32_t left, int32_t right) const noexcept { __builtin_prefetch(&slots_[slot_of(left, right)], 1); }

  merge find(int32_t left, int32_t right) const noexcept {
    size_t i = slot_of(left, right);
    for (size_t probe = 0; probe < longest_probe; ++probe, i = (i + 1) & (slots_.size() - 1)) {
      const slot& s = slots_[i];
      if (s.m.rank == never) break;
      if (s.left == left && s.right == right) return s.m;
    }
    return {};
  }

private:
  size_t slot_of(int32_t left, int32_t right) const noexcept {
    const uint64_t key = (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) | static_cast<uint32_t>(right);
    return static_cast<size_t>((key * 0x9E3779B97F4A7C15u) >> shift_);  // the product's high bits depend on every bit
  }

  static constexpr size_t longest_probe = 512;  // bounds what a hostile vocabulary can make a look-up cost

  flat_table<slot> slots_;  // open addressing, a power of two, at most half full
  int shift_ = 0;
};

}  // namespace troupe::models
