// Angles in double: at position 100,000 a float angle would be off by 0.004. Knows no arena and no thread.
#include "kernels/cpu/rope_table.hpp"

#include <algorithm>
#include <cmath>

namespace troupe::kernels {

bool rope_table::same_shape(const rope_shape& shape) const noexcept {
  return base_ == shape.base && pairs_ == shape.dims / 2 &&
         std::equal(factors_.begin(), factors_.end(), shape.factors.begin(), shape.factors.end());
}

void rope_table::set_shape(const rope_shape& shape) {
  base_ = shape.base;
  pairs_ = shape.dims / 2;
  near_.clear();
  factors_.assign(shape.factors.begin(), shape.factors.end());
  frequencies_.resize(static_cast<std::size_t>(pairs_));
  for (std::size_t i = 0; i < frequencies_.size(); ++i) {
    frequencies_[i] = std::pow(static_cast<double>(base_), -2.0 * static_cast<double>(i) / shape.dims);
    if (i < factors_.size()) frequencies_[i] /= static_cast<double>(factors_[i]);
  }
}

void rope_table::compute(std::int64_t position, float* angles) const {
  for (std::size_t i = 0; i < frequencies_.size(); ++i) {
    const double angle = static_cast<double>(position) * frequencies_[i];
    angles[i] = static_cast<float>(std::cos(angle));
    angles[i + frequencies_.size()] = static_cast<float>(std::sin(angle));
  }
}

void rope_table::prepare(const rope_shape& shape, std::span<const sequence_rows> batch) {
  std::int32_t rows = 0;
  for (const sequence_rows& sequence : batch) rows = std::max(rows, sequence.first_row + sequence.rows);
  wanted_.assign(static_cast<std::size_t>(rows), 0);
  for (const sequence_rows& sequence : batch)
    for (std::int32_t r = 0; r < sequence.rows; ++r)
      wanted_[static_cast<std::size_t>(sequence.first_row + r)] = sequence.past + r;
  const bool same = same_shape(shape);
  if (same && wanted_ == positions_) return;
  if (!same) set_shape(shape);
  positions_ = wanted_;
  const std::size_t size = 2 * frequencies_.size();
  if (size == 0) return;  // nothing is turned
  for (std::size_t row = 0; row < positions_.size(); ++row) {
    const std::int64_t position = positions_[row];
    if (position >= kept_positions) {
      if (far_.size() < positions_.size() * size) far_.resize(positions_.size() * size);
      compute(position, far_.data() + row * size);
      continue;
    }
    for (std::size_t next = near_.size() / size; static_cast<std::int64_t>(next) <= position; ++next) {
      near_.resize((next + 1) * size);
      compute(static_cast<std::int64_t>(next), near_.data() + next * size);
    }
  }
}

}  // namespace troupe::kernels
