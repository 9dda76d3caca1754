// A thread a block of 32 weights, or a block a row of floats. Knows the file's blocks through file_blocks.cuh only.
#include "kernels/cuda/pack_rows.hpp"

#include <type_traits>

#include <cuda_fp8.h>

#include "kernels/cuda/file_blocks.cuh"

namespace troupe::kernels::cuda {
namespace {

using memory::dtype;

template <class T>
__global__ void pack_floats(file_rows f, T* out, int k_padded) {
  const std::uint8_t* const from = f.data + blockIdx.x * f.stride;
  T* const to = out + static_cast<long>(f.first_row + blockIdx.x) * k_padded;
  for (int c = threadIdx.x; c < f.cols; c += blockDim.x) {
    const float v = element_of(from, f.type, c);
    if constexpr (std::is_same_v<T, __half>) to[c] = __float2half(v);
    else to[c] = __float2bfloat16(v);
  }
}

__global__ void pack_fp8(file_rows f, std::uint8_t* out, float* scales, int k_padded) {
  __shared__ float largest[32];
  const int row = blockIdx.x;
  const std::uint8_t* const from = f.data + row * f.stride;
  float m = 0.0f;
  for (int c = threadIdx.x; c < f.cols; c += blockDim.x) m = fmaxf(m, fabsf(element_of(from, f.type, c)));
  for (int o = 16; o; o >>= 1) m = fmaxf(m, __shfl_xor_sync(0xffffffffu, m, o));
  if (threadIdx.x % 32 == 0) largest[threadIdx.x / 32] = m;
  __syncthreads();
  for (unsigned i = 0; i < blockDim.x / 32; ++i) m = fmaxf(m, largest[i]);
  const float scale = m > 0.0f ? m / 448.0f : 1.0f;
  if (threadIdx.x == 0) scales[f.first_row + row] = scale;
  for (int c = threadIdx.x; c < f.cols; c += blockDim.x)
    out[static_cast<long>(f.first_row + row) * k_padded + fp8_place(c)] =
        __nv_cvt_float_to_fp8(element_of(from, f.type, c) / scale, __NV_SATFINITE, __NV_E4M3);
}

/// A block's integers as the device keeps them, and what they are multiplied by and added to.
template <dtype From>
struct kept_block {
  file_block<From> block;
  __device__ explicit kept_block(file_block<From> b) : block(b) {}
  __device__ float d(int half) const { return block.d(half); }
  __device__ int quant(int e) const { return block.quant(e); }
};
/// Scales of 6 bits times integers of 3 are 8 bits, but for -32 times -4: so the scale's sign is turned.
template <>
struct kept_block<dtype::q3_k> {
  file_block<dtype::q3_k> block;
  __device__ explicit kept_block(file_block<dtype::q3_k> b) : block(b) {}
  __device__ float d(int) const { return -block.unit(); }
  __device__ int quant(int e) const { return -block.small_scale(e / 16) * block.quant(e); }
};
template <>
struct kept_block<dtype::q2_k> {
  file_block<dtype::q2_k> block;
  float scale;
  __device__ explicit kept_block(file_block<dtype::q2_k> b) : block(b) {
    float largest = 0.0f;
    for (int e = 0; e < 32; ++e) largest = fmaxf(largest, fabsf(b.value(e)));
    scale = __half2float(__float2half_ru(largest / 127.0f));
  }
  __device__ float d(int) const { return scale; }
  __device__ int quant(int e) const { return scale > 0.0f ? __float2int_rn(block.value(e) / scale) : 0; }
};

/// Where block `block` of row n begins its unit, in units of 8 rows x 128 columns.
__device__ long unit_of(int n, int block, int groups) {
  return (static_cast<long>(n / 64) * groups + block / 4) * 8 + n / 8 % 8;
}

template <dtype From, weight_type To>
__global__ void pack_blocks(file_rows f, std::uint8_t* out, __half* scales, int groups) {
  const long blocks = f.cols / 32, i = blockIdx.x * static_cast<long>(blockDim.x) + threadIdx.x;
  if (i >= f.rows * blocks) return;
  const int row = static_cast<int>(i / blocks), block = static_cast<int>(i % blocks), n = f.first_row + row, g = n % 8;
  const kept_block<From> from(block_in_row<From>(f.data + row * f.stride, block));
  const long unit = unit_of(n, block, groups), place = (unit * 8 + g) * 4 + block % 4;
  constexpr bool two = To == weight_type::q4_1 || To == weight_type::q8_1 || To == weight_type::q8_16;
  scales[place * (two ? 2 : 1)] = __float2half(from.d(0));
  if constexpr (To == weight_type::q8_16) scales[place * 2 + 1] = __float2half(from.d(1));
  else if constexpr (two) scales[place * 2 + 1] = __float2half(from.block.offset(0));
  for (int t = 0; t < 4; ++t) {
    if constexpr (To == weight_type::q4_0 || To == weight_type::q4_1) {
      std::uint32_t word = 0;
#pragma unroll
      for (int at = 0; at < 8; ++at)  // nibble 4i + 2j + h
        word |= static_cast<std::uint32_t>(from.quant(16 * (at & 1) + 8 * (at >> 1 & 1) + 2 * t + (at >> 2)) & 15)
                << at * 4;
      reinterpret_cast<std::uint32_t*>(out)[unit * 128 + (g * 4 + t) * 4 + block % 4] = word;
    } else {
      std::uint32_t words[2] = {};
#pragma unroll
      for (int at = 0; at < 4; ++at)  // byte 2i + j
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const int q = from.quant(16 * h + 8 * (at & 1) + 2 * t + (at >> 1)) + (To == weight_type::q8_1 ? 0 : 128);
          words[h] |= static_cast<std::uint32_t>(q & 255) << at * 8;
        }
      *reinterpret_cast<uint2*>(out + unit * 1024 + block % 4 / 2 * 512 + (g * 4 + t) * 16 + block % 2 * 8) = {
          words[0], words[1]};
    }
  }
}

template <dtype From, weight_type To>
void launch_blocks(const file_rows& f, device_matrix& m, cudaStream_t on) {
  const long blocks = static_cast<long>(f.rows) * (f.cols / 32);
  pack_blocks<From, To><<<static_cast<unsigned>((blocks + 127) / 128), 128, 0, on>>>(
      f, m.data.as<std::uint8_t>(), m.scales.as<__half>(), static_cast<int>(m.k_padded / 128));
}

}  // namespace

weight_type natural_type(dtype file) {
  switch (file) {
    case dtype::f16: return weight_type::f16;
    case dtype::q4_0: return weight_type::q4_0;
    case dtype::q4_1:
    case dtype::q4_k: return weight_type::q4_1;
    case dtype::q5_1:
    case dtype::q5_k: return weight_type::q8_1;
    case dtype::q6_k: return weight_type::q8_16;
    case dtype::q8_0:
    case dtype::q5_0:
    case dtype::q2_k:
    case dtype::q3_k:
    case dtype::iq4_nl:
    case dtype::iq4_xs:
    case dtype::mxfp4: return weight_type::q8_0;
    default: return weight_type::bf16;
  }
}

bool packs_as(dtype file, weight_type type) {
  if (file == dtype::i32) return false;
  return type == weight_type::bf16 || type == weight_type::f16 || type == weight_type::fp8 ||
         type == natural_type(file);
}

result<void> pack_rows(const file_rows& f, device_matrix& m, cudaStream_t on) {
  const int k = static_cast<int>(m.k_padded);
  switch (m.type) {
    case weight_type::bf16: pack_floats<<<f.rows, 256, 0, on>>>(f, m.data.as<bf16>(), k); break;
    case weight_type::f16: pack_floats<<<f.rows, 256, 0, on>>>(f, m.data.as<__half>(), k); break;
    case weight_type::fp8:
      pack_fp8<<<f.rows, 256, 0, on>>>(f, m.data.as<std::uint8_t>(), m.scales.as<float>(), k);
      break;
    default:
      switch (f.type) {
        case dtype::q4_0: launch_blocks<dtype::q4_0, weight_type::q4_0>(f, m, on); break;
        case dtype::q4_1: launch_blocks<dtype::q4_1, weight_type::q4_1>(f, m, on); break;
        case dtype::q4_k: launch_blocks<dtype::q4_k, weight_type::q4_1>(f, m, on); break;
        case dtype::q5_1: launch_blocks<dtype::q5_1, weight_type::q8_1>(f, m, on); break;
        case dtype::q5_k: launch_blocks<dtype::q5_k, weight_type::q8_1>(f, m, on); break;
        case dtype::q6_k: launch_blocks<dtype::q6_k, weight_type::q8_16>(f, m, on); break;
        case dtype::q8_0: launch_blocks<dtype::q8_0, weight_type::q8_0>(f, m, on); break;
        case dtype::q5_0: launch_blocks<dtype::q5_0, weight_type::q8_0>(f, m, on); break;
        case dtype::q2_k: launch_blocks<dtype::q2_k, weight_type::q8_0>(f, m, on); break;
        case dtype::q3_k: launch_blocks<dtype::q3_k, weight_type::q8_0>(f, m, on); break;
        case dtype::iq4_nl: launch_blocks<dtype::iq4_nl, weight_type::q8_0>(f, m, on); break;
        case dtype::iq4_xs: launch_blocks<dtype::iq4_xs, weight_type::q8_0>(f, m, on); break;
        default: launch_blocks<dtype::mxfp4, weight_type::q8_0>(f, m, on); break;
      }
  }
  return check(cudaGetLastError(), "rearranging weights");
}

}  // namespace troupe::kernels::cuda
