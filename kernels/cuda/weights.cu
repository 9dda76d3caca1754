// Rearranges weights on the device: file rows in, the layouts of weights.hpp out; quantises floats to fp8; makes random
// weights for measurements. Knows no product.
#include "kernels/cuda/weights.hpp"

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

/// Rows of one part as the file has them, on the device.
struct file_rows {
  const std::uint8_t* data;
  long stride;
  dtype type;
  int rows, cols;
  int first_row;  // in the stacked matrix
};

__device__ float float_at(const file_rows& f, int row, int col) {
  const std::uint8_t* from = f.data + row * f.stride;
  switch (f.type) {
    case dtype::f32: return reinterpret_cast<const float*>(from)[col];
    case dtype::f16: return __half2float(reinterpret_cast<const __half*>(from)[col]);
    default: return __bfloat162float(reinterpret_cast<const bf16*>(from)[col]);
  }
}

template <class T>
__global__ void pack_floats(file_rows f, T* out, int k_padded) {
  const int row = blockIdx.x;
  for (int c = threadIdx.x; c < f.cols; c += blockDim.x) {
    const float v = float_at(f, row, c);
    T& to = out[static_cast<long>(f.first_row + row) * k_padded + c];
    if constexpr (sizeof(T) == 1) to = T(v);
    else if constexpr (std::is_same_v<T, __half>) to = __float2half(v);
    else to = __float2bfloat16(v);
  }
}

__global__ void pack_fp8(file_rows f, std::uint8_t* out, float* scales, int k_padded) {
  __shared__ float largest[32];
  const int row = blockIdx.x;
  float m = 0.0f;
  for (int c = threadIdx.x; c < f.cols; c += blockDim.x) m = fmaxf(m, fabsf(float_at(f, row, c)));
  for (int o = 16; o; o >>= 1) m = fmaxf(m, __shfl_xor_sync(0xffffffffu, m, o));
  if (threadIdx.x % 32 == 0) largest[threadIdx.x / 32] = m;
  __syncthreads();
  for (unsigned i = 0; i < blockDim.x / 32; ++i) m = fmaxf(m, largest[i]);
  const float scale = m > 0.0f ? m / 448.0f : 1.0f;
  if (threadIdx.x == 0) scales[f.first_row + row] = scale;
  for (int c = threadIdx.x; c < f.cols; c += blockDim.x)
    out[static_cast<long>(f.first_row + row) * k_padded + fp8_place(c)] =
        __nv_cvt_float_to_fp8(float_at(f, row, c) / scale, __NV_SATFINITE, __NV_E4M3);
}

/// Where block `block` of row n begins its unit, in units of 8 rows x 128 columns.
__device__ long unit_of(int n, int block, int groups) {
  return (static_cast<long>(n / 64) * groups + block / 4) * 8 + n / 8 % 8;
}

// One thread a block of 32 in the file.
__global__ void pack_q8_0(file_rows f, std::uint8_t* out, __half* scales, int groups) {
  const int blocks = f.cols / 32, i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= f.rows * blocks) return;
  const int row = i / blocks, block = i % blocks, n = f.first_row + row, g = n % 8;
  const std::uint8_t* from = f.data + row * f.stride + block * 34L;
  const long unit = unit_of(n, block, groups);
  scales[(unit * 8 + g) * 4 + block % 4] = *reinterpret_cast<const __half*>(from);
  for (int e = 0; e < 32; ++e) {
    const int t = e / 2 % 4, at = e / 16 * 4 + e % 2 * 2 + e / 8 % 2;
    out[unit * 1024 + block % 4 / 2 * 512 + (g * 4 + t) * 16 + block % 2 * 8 + at] = from[2 + e] ^ 0x80;
  }
}

// The file's byte b holds elements b (low half) and b + 16: just the two that one byte of a lane's word wants.
__global__ void pack_q4(file_rows f, std::uint32_t* out, __half* scales, int groups, int scale_count) {
  const int blocks = f.cols / 32, i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= f.rows * blocks) return;
  const int row = i / blocks, block = i % blocks, n = f.first_row + row, g = n % 8;
  const std::uint8_t* from = f.data + row * f.stride + block * (16L + 2 * scale_count);
  const long unit = unit_of(n, block, groups);
  for (int s = 0; s < scale_count; ++s)
    scales[((unit * 8 + g) * 4 + block % 4) * scale_count + s] = reinterpret_cast<const __half*>(from)[s];
  const std::uint8_t* nibbles = from + 2 * scale_count;
  for (int t = 0; t < 4; ++t) {
    const std::uint32_t word = nibbles[2 * t] | nibbles[8 + 2 * t] << 8 | nibbles[2 * t + 1] << 16 |
                               static_cast<std::uint32_t>(nibbles[8 + 2 * t + 1]) << 24;
    out[unit * 128 + (g * 4 + t) * 4 + block % 4] = scale_count == 1 ? word ^ 0x88888888u : word;
  }
}

// Q4_K (256 elements: d, dmin, eight 6-bit scales and minima, nibbles of two blocks of 32 a byte) as q4_1: a block of 32
// has one scale and one offset, whose products round to f16 here.
__global__ void pack_q4_k(file_rows f, std::uint32_t* out, __half* scales, int groups) {
  const int blocks = f.cols / 32, i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= f.rows * blocks) return;
  const int row = i / blocks, block = i % blocks, n = f.first_row + row, g = n % 8, j = block % 8;
  const std::uint8_t* from = f.data + row * f.stride + block / 8 * 144L;
  const std::uint8_t* six = from + 4;
  const int scale = j < 4 ? six[j] & 63 : (six[j + 4] & 15) | six[j - 4] >> 6 << 4;
  const int least = j < 4 ? six[j + 4] & 63 : six[j + 4] >> 4 | six[j] >> 6 << 4;
  const long unit = unit_of(n, block, groups);
  __half* const to = scales + ((unit * 8 + g) * 4 + block % 4) * 2;
  to[0] = __float2half(__half2float(reinterpret_cast<const __half*>(from)[0]) * static_cast<float>(scale));
  to[1] = __float2half(-__half2float(reinterpret_cast<const __half*>(from)[1]) * static_cast<float>(least));
  const std::uint8_t* bytes = from + 16 + j / 2 * 32;
  const auto nibble = [&](int e) { return static_cast<std::uint32_t>(j % 2 ? bytes[e] >> 4 : bytes[e] & 15); };
  for (int t = 0; t < 4; ++t) {
    std::uint32_t word = 0;
    for (int k = 0; k < 4; ++k) {
      const int e = 8 * (k & 1) + 2 * t + (k >> 1);
      word |= (nibble(e) | nibble(e + 16) << 4) << 8 * k;
    }
    out[unit * 128 + (g * 4 + t) * 4 + block % 4] = word;
  }
}

__device__ std::uint32_t mixed(std::uint64_t seed, std::uint64_t i) {  // splitmix64's finaliser
  std::uint64_t z = seed + i * 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return static_cast<std::uint32_t>((z ^ (z >> 31)) >> 16);
}

__global__ void random_words(std::uint32_t* out, long words, weight_type type, float spread, std::uint64_t seed) {
  for (long i = blockIdx.x * static_cast<long>(blockDim.x) + threadIdx.x; i < words; i += static_cast<long>(gridDim.x) * blockDim.x) {
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
      const float c = (static_cast<float>(r2 & 0xffff) / 32768.0f - 1.0f), d = (static_cast<float>(r2 >> 16) / 32768.0f - 1.0f);
      word = __nv_cvt_float2_to_fp8x2({a * 259.0f, b * 259.0f}, __NV_SATFINITE, __NV_E4M3) |
             __nv_cvt_float2_to_fp8x2({c * 448.0f, d * 448.0f}, __NV_SATFINITE, __NV_E4M3) << 16;
    }
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
}

std::int64_t data_bytes(weight_type type, std::int64_t n, std::int64_t k) {
  switch (type) {
    case weight_type::bf16:
    case weight_type::f16: return n * k * 2;
    case weight_type::fp8:
    case weight_type::q8_0: return n * k;
    default: return n * k / 2;
  }
}

std::int64_t scale_bytes(weight_type type, std::int64_t n, std::int64_t k) {
  switch (type) {
    case weight_type::bf16:
    case weight_type::f16: return 0;
    case weight_type::fp8: return n * 4;
    case weight_type::q4_1: return n * k / 32 * 4;
    default: return n * k / 32 * 2;
  }
}

bool is_float(dtype type) { return type == dtype::f32 || type == dtype::f16 || type == dtype::bf16; }

result<void> repack(const file_rows& f, device_matrix& m, cudaStream_t on) {
  const int k = static_cast<int>(m.k_padded), blocks = f.rows * (f.cols / 32);
  switch (m.type) {
    case weight_type::bf16: pack_floats<<<f.rows, 256, 0, on>>>(f, m.data.as<bf16>(), k); break;
    case weight_type::f16: pack_floats<<<f.rows, 256, 0, on>>>(f, m.data.as<__half>(), k); break;
    case weight_type::fp8:
      pack_fp8<<<f.rows, 256, 0, on>>>(f, m.data.as<std::uint8_t>(), m.scales.as<float>(), k);
      break;
    case weight_type::q8_0:
      pack_q8_0<<<(blocks + 255) / 256, 256, 0, on>>>(f, m.data.as<std::uint8_t>(), m.scales.as<__half>(), k / 128);
      break;
    case weight_type::q4_0:
    case weight_type::q4_1:
      if (f.type == dtype::q4_k) {
        pack_q4_k<<<(blocks + 255) / 256, 256, 0, on>>>(f, m.data.as<std::uint32_t>(), m.scales.as<__half>(), k / 128);
        break;
      }
      pack_q4<<<(blocks + 255) / 256, 256, 0, on>>>(f, m.data.as<std::uint32_t>(), m.scales.as<__half>(), k / 128,
                                                    m.type == weight_type::q4_1 ? 2 : 1);
      break;
  }
  return check(cudaGetLastError(), "rearranging weights");
}

}  // namespace

result<std::unique_ptr<device_matrix>> make_matrix(weight_type type, std::int64_t rows, std::int64_t cols) {
  auto m = std::make_unique<device_matrix>();
  m->type = type;
  m->rows = rows;
  m->cols = cols;
  m->n_padded = up_to(rows, 64);
  m->k_padded = up_to(cols, 128);
  auto data = allocate_device(data_bytes(type, m->n_padded, m->k_padded));
  if (!data) return data.why();
  m->data = std::move(*data);
  auto scales = allocate_device(scale_bytes(type, m->n_padded, m->k_padded));
  if (!scales) return scales.why();
  m->scales = std::move(*scales);
  m->bytes = m->data.bytes() + m->scales.bytes();
  return result<std::unique_ptr<device_matrix>>(std::move(m));
}

result<std::unique_ptr<device_matrix>> pack_matrix(std::span<const tensor_view> parts, weight_type type,
                                                   cudaStream_t on) {
  std::int64_t rows = 0, largest = 0;
  for (const tensor_view& part : parts) {
    const bool wanted = is_float(part.type) ? type == weight_type::bf16 || type == weight_type::f16 || type == weight_type::fp8
                        : part.type == dtype::q8_0 ? type == weight_type::q8_0
                        : part.type == dtype::q4_0 ? type == weight_type::q4_0
                                                   : (part.type == dtype::q4_1 || part.type == dtype::q4_k) && type == weight_type::q4_1;
    if (!wanted || part.cols % 32 != 0 || part.cols != parts.front().cols)
      return error{errc::unsupported, "a weight of type " + std::string(info(part.type).name) + " and " +
                                          std::to_string(part.cols) + " columns cannot go to the device in this form", {}};
    rows += part.rows;
    largest = std::max(largest, part.bytes());
  }
  auto made = make_matrix(type, rows, parts.front().cols);
  if (!made) return made.why();
  device_matrix& m = **made;
  auto staging = allocate_device(largest);
  if (!staging) return staging.why();
  if (auto done = check(cudaMemsetAsync(m.data.data(), 0, m.data.bytes(), on), "clearing weights"); !done) return done.why();
  if (m.scales.bytes() > 0)
    if (auto done = check(cudaMemsetAsync(m.scales.data(), 0, m.scales.bytes(), on), "clearing weights"); !done)
      return done.why();
  std::int64_t first = 0;
  for (const tensor_view& part : parts) {
    if (auto done = check(cudaMemcpyAsync(staging->data(), part.data, part.bytes(), cudaMemcpyDefault, on), "copying weights"); !done)
      return done.why();
    const file_rows f{staging->as<const std::uint8_t>(), static_cast<long>(part.stride_bytes), part.type,
                      static_cast<int>(part.rows), static_cast<int>(part.cols), static_cast<int>(first)};
    if (auto done = repack(f, m, on); !done) return done.why();
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
    fill_scales<<<static_cast<unsigned>((count + 255) / 256), 256, 0, on>>>(m.scales.as<__half>(), m.scales.as<float>(), count, type, spread);
  if (auto done = check(cudaGetLastError(), "making random weights"); !done) return done.why();
  if (auto done = check(cudaStreamSynchronize(on), "making random weights"); !done) return done.why();
  return result<std::unique_ptr<device_matrix>>(std::move(*made));
}

}  // namespace troupe::kernels::cuda
