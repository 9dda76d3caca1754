// What the device can do at most: a kernel that only reads, and a large product; and what only measurements need. Knows
// no model.
#include <algorithm>
#include <vector>

#include "kernels/cuda/stream_lane.hpp"

namespace troupe::kernels::cuda {
namespace {

/// Every block reads its share with 16-byte loads, eight in flight a thread. The sum is stored only if it is a number
/// that cannot be, so that nothing is left out.
__global__ void read_all(const uint4* from, std::int64_t count, unsigned* never) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  unsigned seen = 0;
  for (; i + 7 * step < count; i += 8 * step) {
    uint4 some[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) some[j] = __ldcs(from + i + j * step);
#pragma unroll
    for (int j = 0; j < 8; ++j) seen |= some[j].x ^ some[j].y ^ some[j].z ^ some[j].w;
  }
  if (seen == 0x9e3779b9u) *never = seen;
}

/// Numbers between -1 and 1, from a hash of their place.
__global__ void fill(bf16* to, std::int64_t count, std::uint64_t seed) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
    std::uint64_t bits = (static_cast<std::uint64_t>(i) + seed) * 0x9e3779b97f4a7c15u;
    bits ^= bits >> 32;
    bits *= 0xd6e8feb86659fd93u;
    to[i] = __float2bfloat16(static_cast<float>(bits >> 40) / (1 << 23) - 1.0f);
  }
}

/// Bytes that are numbers in either format, under scales of 1/64.
__global__ void fill_narrow(unsigned char* to, std::int64_t bytes, kv_layout layout, std::uint64_t seed) {
  const std::int64_t step = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < bytes / 2; i += step) {
    const bool scale = static_cast<int>(2 * i % layout.tile_bytes()) >= kv_layout::scale_offset(layout.head_dim, 0);
    const unsigned random = static_cast<unsigned>((static_cast<std::uint64_t>(i) + seed) * 0x9e3779b97f4a7c15ull >> 40);
    reinterpret_cast<std::uint16_t*>(to)[i] = static_cast<std::uint16_t>(scale ? 0x3c80u : random & 0xbfbfu);
  }
}

/// The best of `times` runs, in seconds.
template <class Run>
result<double> fastest(int times, cudaStream_t on, const Run& run) {
  auto from = make_event(true);
  auto to = make_event(true);
  if (!from) return from.why();
  if (!to) return to.why();
  double best = 1e9;
  for (int i = 0; i <= times; ++i) {
    if (auto r = check(cudaEventRecord(from->get(), on), "measuring"); !r) return r.why();
    if (auto r = run(); !r) return r.why();
    if (auto r = check(cudaEventRecord(to->get(), on), "measuring"); !r) return r.why();
    if (auto r = check(cudaEventSynchronize(to->get()), "measuring"); !r) return r.why();
    float milliseconds = 0;
    if (auto r = check(cudaEventElapsedTime(&milliseconds, from->get(), to->get()), "measuring"); !r) return r.why();
    if (i > 0) best = std::min(best, milliseconds / 1e3);  // the first warms up
  }
  return best;
}

}  // namespace

result<void> stream_lane::fill_random(kv_arena& kv, std::uint64_t seed) {
  const auto& arena = static_cast<cuda_kv&>(kv);
  const auto& memory = arena.storage;
  if (arena.format != kv_format::bf16) {
    const std::int64_t bytes = arena.layout().block_bytes() * arena.blocks;
    fill_narrow<<<1024, 256, 0, stream_.get()>>>(memory.as<unsigned char>(), bytes, arena.layout(), seed);
    return check(cudaGetLastError(), "filling KV");
  }
  fill<<<1024, 256, 0, stream_.get()>>>(memory.as<bf16>(), memory.bytes() / 2, seed);
  return check(cudaGetLastError(), "filling KV");
}

result<device_limits> stream_lane::measure_limits() {
  constexpr std::int64_t bytes = std::int64_t{4} << 30;
  device_limits limits;
  {
    auto memory = allocate_device(bytes);
    if (!memory) return memory.why();
    if (auto r = check(cudaMemsetAsync(memory->data(), 0x5a, bytes, stream_.get()), "measuring"); !r) return r.why();
    auto about = find_device();
    if (!about) return about.why();
    const auto seconds = fastest(8, stream_.get(), [&] {
      read_all<<<about->multiprocessors * 4, 512, 0, stream_.get()>>>(memory->as<const uint4>(), bytes / 16,
                                                                      memory->as<unsigned>());
      return check(cudaGetLastError(), "measuring");
    });
    if (!seconds) return seconds.why();
    limits.read_bytes_per_second = static_cast<double>(bytes) / *seconds;
  }
  constexpr std::int32_t side = 8192;
  auto w = cuda::random_matrix(weight_type::bf16, side, side, 1, stream_.get());
  auto x = cuda::random_matrix(weight_type::bf16, side, side, 2, stream_.get());
  auto out = allocate_device(std::int64_t{side} * side * 2);
  if (!w) return w.why();
  if (!x) return x.why();
  if (!out) return out.why();
  if (auto r = products_->reserve(side, **w); !r) return r.why();
  product p;
  p.w = w->get();
  p.rows = side;
  p.x = (*x)->data.as<const bf16>();
  p.x_stride = side;
  p.out = out->data();
  p.out_stride = side;
  const auto seconds = fastest(10, stream_.get(), [&] { return products_->linear(p, stream_.get()); });
  if (!seconds) return seconds.why();
  limits.bf16_flops_per_second = 2.0 * side * side * side / *seconds;
  ++epoch_;
  return limits;
}

}  // namespace troupe::kernels::cuda
