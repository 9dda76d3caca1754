// Building the table; looking up is in the header, where the inner loop can see it.
#include "models/tokenizer/merge_table.hpp"

#include <bit>
#include <vector>

namespace troupe::models {

merge_table::merge_table(size_t count) : slots_(std::vector<slot>(std::bit_ceil(2 * count + 2))) { settle(); }

void merge_table::settle() noexcept { shift_ = 64 - std::countr_zero(slots_.size()); }

merge_table::insertion merge_table::insert(int32_t left, int32_t right, merge m) {
  size_t i = slot_of(left, right);
  for (size_t probe = 0; probe < longest_probe; ++probe, i = (i + 1) & (slots_.size() - 1)) {
    const slot& s = slots_[i];
    if (s.m.rank == never) {
      slots_.made(i) = {left, right, m};
      return insertion::done;
    }
    if (s.left == left && s.right == right) return insertion::duplicate;
  }
  return insertion::too_crowded;
}

}  // namespace troupe::models
