// Matrices on the device: their sizes, those of a file's rows, random ones for measurements. Knows no product.
#include "kernels/cuda/pack_rows.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <type_traits>

#include <cuda_fp16.h>
#include <cuda_fp8.h>

namespace troupe::kernels::cuda {
namespace {

using memory::dtype;

constexpr std::int64_t up_to(std::int64_t n, std::int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

__device__ std::uint32_t mixed(std::uint64_t seed, std::uint64_t i) {  // splitmix64's finaliser
  std::uint64_t z = seed + i * 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return static_cast<std::uint32_t>((z ^ (z >> 31)) >> 16);
}

__global__ void random_words(std::uint32_t* out, long words, weight_type type, float spread, std::uint64_t seed) {
  for (long i = blockIdx.x * static_cast<long>(blockDim.x) + threadIdx.x; i < words;
       i += static_cast<long>(gridDim.x) * blockDim.x) {
    const std::uint32_t r = mixed(seed, i);
    const float a = (static_cast<float>(r & 0xffff) / 32768.0f - 1.0f) * 1.7320508f;
    const float b = (static_cast<float>(r >> 16) / 32768.0f - 1.0f) * 1.7320508f;
    std::uint32_t word = r;
    if (type == weight_type::bf16) {
      const __nv_bfloat162 two = __floats2bfloat162_rn(a * spread, b * spread);
      word = *reinterpret_cast<const std::uint32_t*>(&two);
    } else if (type == weight_type::f16) {
      const __half2 two = __floats2half2_rn(a * spread, b * spread);
      word = *reinterpret_cast<const std::uint32_t*>(&two);
    } else if (type == weight_type::fp8) {
      const std::uint32_t r2 = mixed(seed + 1, i);
      const float c = (static_cast<float>(r2 & 0xffff) / 32768.0f - 1.0f),
                  d = (static_cast<float>(r2 >> 16) / 32768.0f - 1.0f);
      word = __nv_cvt_float2_to_fp8x2({a * 259.0f, b * 259.0f}, __NV_SATFINITE, __NV_E4M3) |
             __nv_cvt_float2_to_fp8x2({c * 448.0f, d * 448.0f}, __NV_SATFINITE, __NV_E4M3) << 16;
    }
    if (type == weight_type::q8_1) word &= 0x7f7f7f7fu;
    out[i] = word;
  }
}

__global__ void fill_scales(__half* halves, float* floats, long count, weight_type type, float spread) {
  const long i = blockIdx.x * static_cast<long>(blockDim.x) + threadIdx.x;
  if (i >= count) return;
  const float jitter = 0.75f + 0.5f * static_cast<float>(mixed(7, i) & 0xff) / 255.0f;
  if (type == weight_type::fp8) floats[i] = spread * jitter / 259.0f;
  if (type == weight_type::q8_0) halves[i] = __float2half(spread * jitter / 73.9f);
  if (type == weight_type::q4_0) halves[i] = __float2half(spread * jitter / 4.6f);
  if (type == weight_type::q4_1) halves[i] = __float2half((i & 1) ? -7.5f * spread / 4.6f : spread * jitter / 4.6f);
  if (type == weight_type::q8_16) halves[i] = __float2half(spread * jitter / 73.9f);
  if (type == weight_type::q8_1) halves[i] = __float2half((i & 1) ? -63.5f * spread / 36.9f : spread * jitter / 36.9f);
}

std::int64_t data_bytes(weight_type type, std::int64_t n, std::int64_t k) {
  switch (type) {
    case weight_type::bf16:
    case weight_type::f16: return n * k * 2;
    case weight_type::q4_0:
    case weight_type::q4_1: return n * k / 2;
    default: return n * k;
  }
}

std::int64_t scale_bytes(weight_type type, std::int64_t n, std::int64_t k) {
  switch (type) {
    case weight_type::bf16:
    case weight_type::f16: return 0;
    case weight_type::fp8: return n * 4;
    case weight_type::q8_0:
    case weight_type::q4_0: return n * k / 32 * 2;
    default: return n * k / 32 * 4;
  }
}

}  // namespace

std::unique_ptr<device_matrix> shape_matrix(weight_type type, std::int64_t rows, std::int64_t cols) {
  auto m = std::make_unique<device_matrix>();
  m->type = type;
  m->rows = rows;
  m->cols = cols;
  m->n_padded = up_to(rows, 64);
  m->k_padded = up_to(cols, 128);
  m->bytes = data_bytes(type, m->n_padded, m->k_padded) + scale_bytes(type, m->n_padded, m->k_padded);
  return m;
}

std::int64_t room_of(const device_matrix& m) {
  return up_to(data_bytes(m.type, m.n_padded, m.k_padded), 256) +
         up_to(scale_bytes(m.type, m.n_padded, m.k_padded), 256);
}

void place_matrix(device_matrix& m, const device_buffer& room, std::int64_t at) {
  const std::int64_t data = data_bytes(m.type, m.n_padded, m.k_padded);
  m.data = part_of(room, at, data);
  m.scales = part_of(room, at + up_to(data, 256), scale_bytes(m.type, m.n_padded, m.k_padded));
}

result<std::unique_ptr<device_matrix>> make_matrix(weight_type type, std::int64_t rows, std::int64_t cols) {
  auto m = shape_matrix(type, rows, cols);
  auto room = allocate_device(room_of(*m));
  if (!room) return room.why();
  place_matrix(*m, *room, 0);
  return result<std::unique_ptr<device_matrix>>(std::move(m));
}

result<void> clear_matrix(device_matrix& m, cudaStream_t on) {
  if (auto done = check(cudaMemsetAsync(m.data.data(), 0, m.data.bytes(), on), "clearing weights"); !done) return done;
  if (m.scales.bytes() == 0) return {};
  return check(cudaMemsetAsync(m.scales.data(), 0, m.scales.bytes(), on), "clearing weights");
}

result<std::unique_ptr<device_matrix>> pack_matrix(std::span<const tensor_view> parts, weight_type type,
                                                   cudaStream_t on) {
  std::int64_t rows = 0, largest = 0;
  for (const tensor_view& part : parts) {
    if (!packs_as(part.type, type))
      return error{errc::unsupported,
                   "weights of type " + std::string(memory::info(part.type).name) + " have no such form on the device",
                   {}};
    rows += part.rows;
    largest = std::max(largest, part.bytes());
  }
  auto made = make_matrix(type, rows, parts.front().cols);
  if (!made) return made.why();
  device_matrix& m = **made;
  if (auto done = clear_matrix(m, on); !done) return done.why();
  auto staging = allocate_device(largest);
  if (!staging) return staging.why();
  std::int64_t first = 0;
  for (const tensor_view& part : parts) {
    if (auto done =
            check(cudaMemcpyAsync(staging->data(), part.data, part.bytes(), cudaMemcpyDefault, on), "copying weights");
        !done)
      return done.why();
    const file_rows f{staging->as<const std::uint8_t>(), static_cast<long>(part.stride_bytes), part.type,
                      static_cast<int>(part.rows),       static_cast<int>(part.cols),          static_cast<int>(first)};
    if (auto done = pack_rows(f, m, on); !done) return done.why();
    first += part.rows;
  }
  if (auto done = check(cudaStreamSynchronize(on), "copying weights"); !done) return done.why();
  return result<std::unique_ptr<device_matrix>>(std::move(*made));
}

result<std::unique_ptr<device_matrix>> random_matrix(weight_type type, std::int64_t rows, std::int64_t cols,
                                                     std::uint64_t seed, cudaStream_t on) {
  auto made = make_matrix(type, rows, cols);
  if (!made) return made.why();
  device_matrix& m = **made;
  const float spread = 1.0f / std::sqrt(static_cast<float>(cols));
  random_words<<<1024, 256, 0, on>>>(m.data.as<std::uint32_t>(), m.data.bytes() / 4, type, spread, seed);
  const long count = m.scales.bytes() / (type == weight_type::fp8 ? 4 : 2);
  if (count > 0)
    fill_scales<<<static_cast<unsigned>((count + 255) / 256), 256, 0, on>>>(m.scales.as<__half>(), m.scales.as<float>(),
                                                                            count, type, spread);
  if (auto done = check(cudaGetLastError(), "making random weights"); !done) return done.why();
  if (auto done = check(cudaStreamSynchronize(on), "making random weights"); !done) return done.why();
  return result<std::unique_ptr<device_matrix>>(std::move(*made));
}

}  // namespace troupe::kernels::cuda
