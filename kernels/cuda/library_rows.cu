// Kernels a row of x or of sums at a time, each block a row or a part of one. Knows no weights.
#include "kernels/cuda/library_rows.hpp"

#include <cuda_fp16.h>
#include <cuda_fp8.h>

namespace troupe::kernels::cuda {
namespace {

/// The sum of a and the largest b of a block, to every thread; always in one order.
__device__ float2 block_sum_and_largest(float a, float b, float2* scratch) {
  for (int o = 16; o; o >>= 1) {
    a += __shfl_xor_sync(0xffffffffu, a, o);
    b = fmaxf(b, __shfl_xor_sync(0xffffffffu, b, o));
  }
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = {a, b};
  __syncthreads();
  float2 all = scratch[0];
  for (unsigned i = 1; i < blockDim.x / 32; ++i) all = {all.x + scratch[i].x, fmaxf(all.y, scratch[i].y)};
  return all;
}

__device__ inline void eight_of(const bf16* from, float (&v)[8]) {
  const uint4 raw = *reinterpret_cast<const uint4*>(from);
  const unsigned words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
  for (int i = 0; i < 8; ++i) v[i] = __uint_as_float(i & 1 ? words[i / 2] & 0xffff0000u : words[i / 2] << 16);
}

/// A block a row: norm if asked for, then the element type that the product wants; fp8 with a scale a row. Each thread
/// has Each times 8 columns in registers, so that all of a row is on its way at once.
template <int Each>
__global__ void __launch_bounds__(1024)
    prepare_x(product p, int k, int k_out, void* out, float* scales, row_form into) {
  __shared__ float2 scratch[32];
  let_successor_start();
  const long row = blockIdx.x;
  float v[Each][8] = {}, squares = 0.0f, largest = 0.0f;
  if (!p.x) {  // the gain, which nobody writes
#pragma unroll
    for (int e = 0; e < Each; ++e)
#pragma unroll
      for (int i = 0; i < 8; i += 4) {
        const int c = (e * blockDim.x + threadIdx.x) * 8;
        if (c < k) *reinterpret_cast<float4*>(v[e] + i) = *reinterpret_cast<const float4*>(p.gain + c + i);
      }
  }
  wait_for_predecessor();
#pragma unroll
  for (int e = 0; e < Each; ++e) {
    const int c = (e * blockDim.x + threadIdx.x) * 8;
    if (c >= k) continue;
    if (p.x) {
      eight_of(p.x + row * p.x_stride + c, v[e]);
    } else {
#pragma unroll
      for (int i = 0; i < 8; i += 4) {
        const float4 h = *reinterpret_cast<const float4*>(p.hidden + row * p.x_stride + c + i);
        squares += h.x * h.x + h.y * h.y + h.z * h.z + h.w * h.w;
        v[e][i] *= h.x, v[e][i + 1] *= h.y, v[e][i + 2] *= h.z, v[e][i + 3] *= h.w;
      }
    }
  }
#pragma unroll
  for (int e = 0; e < Each; ++e)
#pragma unroll
    for (int i = 0; i < 8; ++i) largest = fmaxf(largest, fabsf(v[e][i]));
  float factor = 1.0f;
  if (!p.x || into != row_form::bf16) {
    const float2 all = block_sum_and_largest(squares, largest, scratch);
    if (!p.x) factor = rsqrtf(all.x / static_cast<float>(k) + p.eps);
    largest = all.y * factor;
  }
  if (into != row_form::bf16) {  // f16: a power of two, so that nothing overflows and nothing rounds
    float scale = 1.0f;
    if (into == row_form::fp8 && largest > 0.0f) scale = 448.0f / largest;
    if (into == row_form::f16 && largest > 16384.0f && largest < 3e38f)
      scale = exp2f(-floorf(log2f(largest / 16384.0f)) - 1.0f);
    if (threadIdx.x == 0) scales[row] = 1.0f / scale;
    factor *= scale;
  }
#pragma unroll
  for (int e = 0; e < Each; ++e) {
    const int c = (e * blockDim.x + threadIdx.x) * 8;
    if (c >= k_out) continue;
    const long at = row * k_out;
    unsigned words[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float a = v[e][2 * i] * factor, b = v[e][2 * i + 1] * factor;
      if (into == row_form::bf16) {
        const __nv_bfloat162 two = __floats2bfloat162_rn(a, b);
        words[i] = *reinterpret_cast<const unsigned*>(&two);
      } else if (into == row_form::f16) {
        const __half2 two = __floats2half2_rn(a, b);
        words[i] = *reinterpret_cast<const unsigned*>(&two);
      } else {
        *reinterpret_cast<std::uint16_t*>(static_cast<std::uint8_t*>(out) + at + fp8_place(c + 2 * i)) =
            __nv_cvt_float2_to_fp8x2({a, b}, __NV_SATFINITE, __NV_E4M3);
      }
    }
    if (into != row_form::fp8)
      *reinterpret_cast<uint4*>(static_cast<std::uint16_t*>(out) + at + c) = {words[0], words[1], words[2], words[3]};
  }
}

__device__ inline unsigned word_of(__nv_bfloat162 v) { return *reinterpret_cast<const unsigned*>(&v); }

/// silu(gate) * up of a row in fp8 with one scale, 256 threads a row. While the row's largest is looked for it waits in
/// bf16: so few registers let four rows share a multiprocessor, one reading while others compute and write.
template <int Each>
__global__ void __launch_bounds__(256, Each > 8 ? 1 : 4)
    prepare_gated(product p, int k, int k_out, std::uint8_t* out, float* scales) {
  __shared__ float2 scratch[8];
  let_successor_start();
  wait_for_predecessor();
  const long row = blockIdx.x;
  const bf16* const from = p.x + row * p.x_stride;
  unsigned kept[Each][4] = {};
  float largest = 0.0f;
#pragma unroll
  for (int e = 0; e < Each; ++e) {
    const int c = static_cast<int>(e * 256 + threadIdx.x) * 8;
    if (c >= k) continue;
    float gate[8], up[8];
    eight_of(from + c, gate);
    eight_of(from + k + c, up);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      gate[i] = __fdividef(gate[i], 1.0f + __expf(-gate[i])) * up[i];
      largest = fmaxf(largest, fabsf(gate[i]));
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) kept[e][i] = word_of(__floats2bfloat162_rn(gate[2 * i], gate[2 * i + 1]));
  }
  largest = block_sum_and_largest(0.0f, largest, scratch).y;
  const float scale = largest > 0.0f ? 448.0f / largest : 1.0f;
  if (threadIdx.x == 0) scales[row] = 1.0f / scale;
#pragma unroll
  for (int e = 0; e < Each; ++e) {
    const int c = static_cast<int>(e * 256 + threadIdx.x) * 8;
    if (c >= k_out) continue;
#pragma unroll
    for (int i = 0; i < 4; ++i)
      *reinterpret_cast<std::uint16_t*>(out + row * k_out + fp8_place(c + 2 * i)) = __nv_cvt_float2_to_fp8x2(
          {__uint_as_float(kept[e][i] << 16) * scale, __uint_as_float(kept[e][i] & 0xffff0000u) * scale},
          __NV_SATFINITE, __NV_E4M3);
  }
}

/// The library's f16 products have no bf16 output, and their x carries a scale a row: from their f32 sums to `out`.
__global__ void finish_f16(const float* sums, const float* scales, product p, int n, int n_out) {
  wait_for_predecessor();
  let_successor_start();
  const long row = blockIdx.y;
  const int c = blockIdx.x * blockDim.x + threadIdx.x;
  if (c >= n_out) return;
  const float v = sums[row * n + c] * scales[row];
  const long at = row * p.out_stride + c;
  switch (p.output) {
    case product_output::bf16: static_cast<bf16*>(p.out)[at] = __float2bfloat16(v); break;
    case product_output::f32: static_cast<float*>(p.out)[at] = v; break;
    case product_output::add_f32: static_cast<float*>(p.out)[at] += v; break;
    case product_output::silu_bf16:
      static_cast<bf16*>(p.out)[at] =
          __float2bfloat16(v / (1.0f + __expf(-v)) * (sums[row * n + n_out + c] * scales[row]));
      break;
  }
}

__global__ void silu_halves(const bf16* gate_up, bf16* out, int n, long out_stride) {
  wait_for_predecessor();
  let_successor_start();
  const long row = blockIdx.y;
  const int c = (blockIdx.x * blockDim.x + threadIdx.x) * 8;
  if (c >= n) return;
  const uint4 g = *reinterpret_cast<const uint4*>(gate_up + row * 2 * n + c);
  const uint4 u = *reinterpret_cast<const uint4*>(gate_up + row * 2 * n + n + c);
  const auto two = [](unsigned a, unsigned b) {
    const float2 gate = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&a));
    const float2 up = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&b));
    const __nv_bfloat162 r =
        __floats2bfloat162_rn(gate.x / (1.0f + __expf(-gate.x)) * up.x, gate.y / (1.0f + __expf(-gate.y)) * up.y);
    return *reinterpret_cast<const unsigned*>(&r);
  };
  *reinterpret_cast<uint4*>(out + row * out_stride + c) = {two(g.x, u.x), two(g.y, u.y), two(g.z, u.z), two(g.w, u.w)};
}

}  // namespace

void prepare_gated_rows(const product& p, int k, int k_out, void* out, float* scales, cudaStream_t on) {
  launch(k_out <= 8 * 2048 ? prepare_gated<8> : prepare_gated<32>, dim3(p.rows), dim3(256), 0, on, p, k, k_out,
         static_cast<std::uint8_t*>(out), scales);
}

void prepare_rows(const product& p, int k, int k_out, void* out, float* scales, row_form into, cudaStream_t on) {
  const auto with = [&](auto kernel, int each) {
    const int threads = (k_out + each * 256 - 1) / (each * 256) * 32;
    launch(kernel, dim3(p.rows), dim3(threads), 0, on, p, k, k_out, out, scales, into);
  };
  if (k_out <= 4096) with(prepare_x<1>, 1);
  else if (k_out <= 16384) with(prepare_x<2>, 2);
  else if (k_out <= 32768) with(prepare_x<4>, 4);
  else with(prepare_x<16>, 16);
}

void finish_f16_rows(const float* sums, const float* scales, const product& p, int n, cudaStream_t on) {
  const int n_out = p.output == product_output::silu_bf16 ? n / 2 : n;
  launch(finish_f16, dim3((n_out + 255) / 256, p.rows), dim3(256), 0, on, sums, scales, p, n, n_out);
}

void silu_rows(const bf16* gate_up, bf16* out, std::int32_t rows, int n, std::int64_t out_stride, cudaStream_t on) {
  launch(silu_halves, dim3((n / 8 + 127) / 128, rows), dim3(128), 0, on, gate_up, out, n,
         static_cast<long>(out_stride));
}

}  // namespace troupe::kernels::cuda
