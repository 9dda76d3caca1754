// The memory that attention and rope share between the layers of a step, and the step's plan in it. Made once for a
// shape, outside of any capture. Knows no layer.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cuda/kv_layout.hpp"
#include "kernels/cuda/rope_store.hpp"
#include "kernels/cuda/step_plan.hpp"
#include "kernels/lane.hpp"

namespace troupe::kernels::cuda {

/// What the room's sizes follow from.
struct room_shape {
  float base = 0.0f;
  std::int32_t dims = 0;
  bool interleaved = true;
  std::vector<float> factors;
  std::int32_t heads = 0;
  std::int32_t kv_heads = 0;
  std::int32_t head_dim = 0;
  kv_format format = kv_format::bf16;
  std::int32_t rows = 0;  ///< of the largest step
  std::int32_t sequences = 0;
  std::int64_t results = 0;  ///< of what sequences share, all of a step together
  bool operator==(const room_shape&) const = default;
};

class attention_room {
public:
  attention_room() = default;
  static result<attention_room> create(room_shape shape, cudaStream_t on);

  bool serves(const room_shape& wanted) const { return shape_ == wanted; }
  const room_shape& shape() const noexcept { return shape_; }
  /// Queues the kernel that plans the step.
  void plan_on(const step_tables& tables, const shared_tables& shared, std::int32_t least_prefilled,
               cudaStream_t on) const;
  const step_plan& plan() const noexcept { return plan_; }
  rotation turn() const noexcept { return {plan_.angles, shape_.dims, shape_.interleaved}; }
  std::byte* workspace() const noexcept { return workspace_.as<std::byte>(); }
  std::byte* split_workspace() const noexcept { return splits_.as<std::byte>(); }
  /// Whether attend_decode may rotate and store by itself.
  bool fuses_rope() const noexcept { return shape_.interleaved || shape_.dims == shape_.head_dim; }

private:
  room_shape shape_;
  step_plan plan_;
  device_buffer frequencies_, angles_, decode_, tiles_, counts_, workspace_, splits_;
};

}  // namespace troupe::kernels::cuda
