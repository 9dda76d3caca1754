// The angles of one step's rows, computed once and used by every layer. Knows no arena and no thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/lane.hpp"

namespace troupe::kernels {

/// cos and sin for each row of a step: [rows][dims / 2] each. Su et al., "RoFormer" (2021):
/// angle = position * base^(-2i / dims) / factors[i].
class rope_table {
public:
  /// Recomputes only when the positions or the shape differ from the last call's.
  void prepare(const rope_shape& shape, std::span<const sequence_rows> batch);
  const float* cosines(std::int64_t row) const noexcept { return cos_.data() + row * pairs_; }
  const float* sines(std::int64_t row) const noexcept { return sin_.data() + row * pairs_; }

private:
  bool same_shape(const rope_shape& shape) const noexcept;
  void set_shape(const rope_shape& shape);

  float base_ = 0.0f;
  std::int32_t pairs_ = 0;
  std::vector<float> factors_;
  std::vector<double> frequencies_;
  std::vector<std::int32_t> positions_;  ///< of each row of the step
  std::vector<std::int32_t> wanted_;
  std::vector<float> cos_;
  std::vector<float> sin_;
};

}  // namespace troupe::kernels
