// Lays the activations of a step out in one allocation. Knows shapes only.
#include <limits>

#include "models/network.hpp"

namespace troupe::models {

result<forward_scratch> forward_scratch::create(kernels::lane& lane, const model_shape& shape, std::int32_t max_rows,
                                                std::int32_t max_sample_rows) {
  if (max_rows < 1 || max_sample_rows < 1) {
    return error{errc::invalid_argument, "a step needs room for at least one row and one sampled row", {}};
  }
  forward_scratch scratch;
  struct part {
    memory::tensor_view* view;
    std::int64_t rows;
    std::int64_t cols;
  };
  const std::int64_t rows = max_rows;
  const std::int64_t sampled = max_sample_rows;
  const part parts[] = {{&scratch.hidden_, rows, shape.width},
                        {&scratch.normed_, rows, shape.width},
                        {&scratch.qkv_, rows, shape.qkv_width()},
                        {&scratch.attended_, rows, shape.attention_width()},
                        {&scratch.gate_up_, rows, 2 * std::int64_t{shape.feed_forward}},
                        {&scratch.gated_, rows, shape.feed_forward},
                        {&scratch.sampled_, sampled, shape.width},
                        {&scratch.logits_, sampled, shape.vocabulary}};
  // Rows start on cache lines, so that no two threads write one line. Sizes of a shape are below 2^31 each and rows
  // below 2^31: each product is below 2^62, and a sum that is too large for the lane fails there.
  constexpr std::int64_t line_floats = 16;
  std::int64_t floats = 0;
  for (const part& p : parts) {
    const std::int64_t stride = (p.cols + line_floats - 1) / line_floats * line_floats;
    if (stride > (std::numeric_limits<std::int64_t>::max() / 8 - floats) / p.rows) {
      return error{errc::out_of_memory, "activations of so many rows do not fit any memory", {}};
    }
    floats += stride * p.rows;
  }
  auto bytes = lane.allocate(floats * 4);
  if (!bytes) return std::move(bytes).why();
  scratch.bytes_ = *std::move(bytes);
  auto* at = static_cast<float*>(scratch.bytes_.data());
  for (const part& p : parts) {
    const std::int64_t stride = (p.cols + line_floats - 1) / line_floats * line_floats;
    *p.view = {at, memory::dtype::f32, p.rows, p.cols, stride * 4};
    at += stride * p.rows;
  }
  return scratch;
}

}  // namespace troupe::models
