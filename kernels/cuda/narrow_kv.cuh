// K and V of a byte a number: from rows to bytes and back to operands of a product. Device code only; knows no
// attention.
#pragma once

#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include "kernels/cuda/fp8_pair.cuh"
#include "kernels/cuda/rotate.hpp"
#include "kernels/cuda/warp_tiles.hpp"

namespace troupe::kernels::cuda {

/// Two neighbouring bytes and the two 8 columns behind them, as pairs of f16: exactly, without the scale.
template <kv_format F>
__device__ inline void widen(std::uint32_t bytes, std::uint32_t& low, std::uint32_t& high) {
  if constexpr (F == kv_format::fp8) {
    low = fp8_pair(bytes);
    high = fp8_pair(bytes >> 16);
  } else {
    const __half2 offset = __half2half2(__ushort_as_half(0x6480));  // 1,024 + 128
    const std::uint32_t a = __byte_perm(bytes, 0x64646464, 0x4140), b = __byte_perm(bytes, 0x64646464, 0x4342);
    const __half2 c = __hsub2(reinterpret_cast<const __half2&>(a), offset),
                  d = __hsub2(reinterpret_cast<const __half2&>(b), offset);
    low = reinterpret_cast<const std::uint32_t&>(c);
    high = reinterpret_cast<const std::uint32_t&>(d);
  }
}

/// c[16 x 8] += a[16 x 16] . b[16 x 8] of f16; a is a square
template <kv_format F>
__device__ inline void multiply_add_narrow(float (&c)[4], std::uint32_t upper, std::uint32_t lower, std::uint32_t b0,
                                           std::uint32_t b1) {
  std::uint32_t a[4];
  widen<F>(upper, a[0], a[2]);
  widen<F>(lower, a[1], a[3]);
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ inline std::uint32_t pack_f16(float low, float high) {
  const __half2 both = __floats2half2_rn(low, high);
  return reinterpret_cast<const std::uint32_t&>(both);
}

/// A NaN stays one.
__device__ inline float larger(float a, float b) {
  float c;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(c) : "f"(a), "f"(b));
  return c;
}
__device__ inline float largest(const chunk& c, float so_far) {
  for (const auto pair : c.pairs) {
    const float2 v = __bfloat1622float2(pair);
    so_far = larger(larger(so_far, fabsf(v.x)), fabsf(v.y));
  }
  return so_far;
}

/// What 1 stands for where `most` is the largest number: no byte is beyond the format's range.
template <kv_format F>
__device__ inline bf16 scale_for(float most) {
  const float scale = most / (F == kv_format::fp8 ? 448.0f : 127.0f);
  return scale < 1e-30f ? __float2bfloat16(0.0f) : __float2bfloat16_ru(scale);  // its reciprocal is a number
}

template <kv_format F>
__device__ inline std::uint32_t narrow(float2 v) {
  if constexpr (F == kv_format::fp8) return __nv_cvt_float2_to_fp8x2(v, __NV_SATFINITE, __NV_E4M3);
  const int x = __float2int_rn(v.x), y = __float2int_rn(v.y);
  return static_cast<std::uint32_t>(x + 128) & 255 | (static_cast<std::uint32_t>(y + 128) & 255) << 8;
}

/// The 8 dims of chunk `at` of a token's head, to its places in one tile or two alike.
template <kv_format F>
__device__ inline void store_narrow(const chunk& c, bf16 scale, bool value, int token, int at, std::byte* tile,
                                    std::byte* another = nullptr) {
  const float one = __bfloat162float(scale), inverse = one > 0 ? 1.0f / one : one;  // 0 and NaN stay
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    float2 v = __bfloat1622float2(c.pairs[i]);
    v.x *= inverse;
    v.y *= inverse;
    const std::uint32_t pair = narrow<F>(v);
    const int dim = at * 8 + 2 * i;
    for (std::byte* to : {tile, another}) {
      if (!to) continue;
      if (value) {
        to[kv_layout::byte_offset(true, token, dim)] = static_cast<std::byte>(pair);
        to[kv_layout::byte_offset(true, token, dim + 1)] = static_cast<std::byte>(pair >> 8);
      } else {
        *reinterpret_cast<std::uint16_t*>(to + kv_layout::byte_offset(false, token, dim)) =
            static_cast<std::uint16_t>(pair);
      }
    }
  }
}

/// Sixteen numbers to their Hadamard transform, not yet scaled.
__device__ inline void mix(float (&x)[16]) {
#pragma unroll
  for (int step = 1; step < 16; step *= 2)
#pragma unroll
    for (int i = 0; i < 16; ++i)
      if (!(i & step)) {
        const float a = x[i], b = x[i + step];
        x[i] = a + b;
        x[i + step] = a - b;
      }
}

/// Turns a head whose numbers lie in `units` neighbouring lanes, all of which call this: Q . K stays, and what sticks
/// out of one dim is spread over all. Q and K must be held alike.
__device__ inline void turn_head(chunk& low, chunk& high, int units) {
  const int lane = threadIdx.x & 31;
  const unsigned mask = (units == 8 ? 0xffu : 0xfu) << (lane & ~(units - 1));
  float x[16];
  for (int i = 0; i < 4; ++i) {
    const float2 a = __bfloat1622float2(low.pairs[i]), b = __bfloat1622float2(high.pairs[i]);
    x[2 * i] = a.x, x[2 * i + 1] = a.y, x[8 + 2 * i] = b.x, x[9 + 2 * i] = b.y;
  }
  mix(x);
  for (int step = 1; step < units; step *= 2)
    for (float& v : x) {
      const float other = __shfl_xor_sync(mask, v, step);
      v = lane & step ? other - v : v + other;
    }
  const float one = units == 8 ? 0.08838834764831845f : 0.125f;  // 1 / sqrt(head_dim)
  for (int i = 0; i < 4; ++i) {
    low.pairs[i] = __floats2bfloat162_rn(x[2 * i] * one, x[2 * i + 1] * one);
    high.pairs[i] = __floats2bfloat162_rn(x[8 + 2 * i] * one, x[9 + 2 * i] * one);
  }
}

}  // namespace troupe::kernels::cuda
