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
    memory::dtype type;
    // Rows start on cache lines, so that no two threads write one line.
    std::int64_t stride() const noexcept { return (memory::row_size(type, cols) + 63) / 64 * 64; }
  };
  const std::int64_t rows = max_rows;
  const std::int64_t sampled = max_sample_rows;
  const memory::dtype own = lane.activation_type();
  const part parts[] = {{&scratch.hidden_, rows, shape.width, memory::dtype::f32},
                        {&scratch.normed_, rows, shape.width, own},
                        {&scratch.qkv_, rows, shape.qkv_width(), own},
                        {&scratch.attended_, rows, shape.attention_width(), own},
                        {&scratch.gate_up_, rows, 2 * std::int64_t{shape.feed_forward}, own},
                        {&scratch.gated_, rows, shape.feed_forward, own},
                        {&scratch.sampled_, sampled, shape.width, own},
                        {&scratch.logits_, sampled, shape.vocabulary, memory::dtype::f32}};
  // Sizes of a shape are below 2^31 each and rows below 2^31: each product is below 2^62, and a sum that is too large
  // for the lane fails there.
  std::int64_t total = 0;
  for (const part& p : parts) {
    if (p.stride() > (std::numeric_limits<std::int64_t>::max() / 2 - total) / p.rows) {
      return error{errc::out_of_memory, "activations of so many rows do not fit any memory", {}};
    }
    total += p.stride() * p.rows;
  }
  auto bytes = lane.allocate(total);
  if (!bytes) return std::move(bytes).why();
  scratch.bytes_ = *std::move(bytes);
  auto* at = static_cast<std::byte*>(scratch.bytes_.data());
  for (const part& p : parts) {
    *p.view = {at, p.type, p.rows, p.cols, p.stride()};
    at += p.stride() * p.rows;
  }
  return scratch;
}

}  // namespace troupe::models
