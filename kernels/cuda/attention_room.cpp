// Sizes and frequencies. Knows no layer.
#include "kernels/cuda/attention_room.hpp"

#include <cmath>

#include "kernels/cuda/attention.hpp"

namespace troupe::kernels::cuda {
namespace {

/// base^(-2i / dims) / factors[i], in double: at position 100,000 a float angle would be off by 0.004.
std::vector<double> frequencies_of(const room_shape& shape) {
  std::vector<double> frequencies(static_cast<std::size_t>(shape.dims / 2));
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    frequencies[i] = std::pow(static_cast<double>(shape.base), -2.0 * static_cast<double>(i) / shape.dims);
    if (i < shape.factors.size()) frequencies[i] /= static_cast<double>(shape.factors[i]);
  }
  return frequencies;
}

result<void> take(device_buffer& into, std::int64_t bytes) {
  auto made = allocate_device(bytes);
  if (!made) return made.why();
  into = *std::move(made);
  return {};
}

}  // namespace

result<attention_room> attention_room::create(room_shape shape, cudaStream_t on) {
  attention_room room;
  const auto frequencies = frequencies_of(shape);
  const kv_layout layout{nullptr, 1, shape.kv_heads, shape.head_dim};
  const std::int64_t tiles = most_tiles(shape.sequences, shape.rows, prefill_tile_rows());
  const auto pairs = static_cast<std::int64_t>(frequencies.size());
  const std::int64_t workspace = decode_workspace_bytes(shape.results, shape.heads, layout);
  for (auto r : {take(room.frequencies_, pairs * 8), take(room.angles_, shape.rows * pairs * 8),
                 take(room.decode_, static_cast<std::int64_t>(sizeof(decode_plan))),
                 take(room.tiles_, tiles * static_cast<std::int64_t>(sizeof(prefill_tile))), take(room.counts_, 8),
                 take(room.workspace_, workspace), take(room.splits_, prefill_workspace_bytes(shape.head_dim))})
    if (!r) return r.why();
  const auto bytes = frequencies.size() * 8;
  if (auto r = check(cudaMemcpyAsync(room.frequencies_.data(), frequencies.data(), bytes, cudaMemcpyHostToDevice, on),
                     "copying frequencies");
      !r)
    return r.why();
  if (auto r = check(cudaMemsetAsync(room.workspace_.data(), 0, static_cast<std::size_t>(workspace), on),
                     "clearing a workspace");
      !r)
    return r.why();
  if (auto r = check(cudaStreamSynchronize(on), "copying frequencies"); !r) return r.why();
  room.plan_ = {room.angles_.as<float2>(), room.decode_.as<decode_plan>(), room.tiles_.as<prefill_tile>(),
                room.counts_.as<std::int32_t>()};
  room.shape_ = std::move(shape);
  return result<attention_room>(std::move(room));
}

void attention_room::plan_on(const step_tables& tables, const shared_tables& shared, std::int32_t least_prefilled,
                             cudaStream_t on) const {
  const kv_layout kv{nullptr, 1, shape_.kv_heads, shape_.head_dim, shape_.format};
  make_step_plan({&tables, frequencies_.as<const double>(), shape_.dims / 2, prefill_tile_rows(),
                  decode_groups(shape_.heads, shape_.kv_heads), least_prefilled,
                  !shared && decodes_in_clusters(tables, shape_.heads, kv), shared, plan_},
                 on);
}

}  // namespace troupe::kernels::cuda
