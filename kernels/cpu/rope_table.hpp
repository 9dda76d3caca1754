// The angles of one step's rows, used by every layer. Knows no arena and no thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/lane.hpp"

namespace troupe::kernels {

/// cos and sin for each row of a step: [dims / 2] each. Su et al., "RoFormer" (2021):
/// angle = position * base^(-2i / dims) / factors[i].
class rope_table {
public:
  /// Positions below this are kept once they are computed, 8 bytes a pair of dimensions; those of later ones as long as
  /// the step's rows have them.
  static constexpr std::int32_t kept_positions = 16384;

  /// Computes what positions it has not met, anew where the shape differs from the last call's.
  void prepare(const rope_shape& shape, std::span<const sequence_rows> batch);
  const float* cosines(std::int64_t row) const noexcept { return angles(row); }
  const float* sines(std::int64_t row) const noexcept { return angles(row) + pairs_; }

private:
  bool same_shape(const rope_shape& shape) const noexcept;
  void set_shape(const rope_shape& shape);
  void compute(std::int64_t position, float* angles) const;
  const float* angles(std::int64_t row) const noexcept {
    const std::int64_t position = positions_[static_cast<std::size_t>(row)];
    return position < kept_positions ? near_.data() + position * 2 * pairs_ : far_.data() + row * 2 * pairs_;
  }

  float base_ = 0.0f;
  std::int32_t pairs_ = 0;
  std::vector<float> factors_;
  std::vector<double> frequencies_;
  std::vector<std::int32_t> positions_;  ///< of each row of the step
  std::vector<std::int32_t> wanted_;
  std::vector<float> near_;  ///< by position: cosines, then sines
  std::vector<float> far_;   ///< by row
};

}  // namespace troupe::kernels
