// Rotating 16-byte chunks of a head, the same bits wherever it is done. Device code only; knows no row.
#pragma once

#include "kernels/cuda/rope_store.hpp"

namespace troupe::kernels::cuda {

struct alignas(16) chunk {
  __nv_bfloat162 pairs[4];
};

__device__ inline void rotate(float& a, float& b, float2 angle) {
  const float turned = __fmaf_rn(a, angle.x, -__fmul_rn(b, angle.y));
  b = __fmaf_rn(a, angle.y, __fmul_rn(b, angle.x));
  a = turned;
}

/// Pairs within each chunk; `angles` are those of the first.
__device__ inline void rotate_within(chunk& c, const float2* angles) {
  for (int i = 0; i < 4; ++i) {
    float2 v = __bfloat1622float2(c.pairs[i]);
    rotate(v.x, v.y, angles[i]);
    c.pairs[i] = __float22bfloat162_rn(v);
  }
}

/// Pairs from chunk to chunk.
__device__ inline void rotate_across(chunk& low, chunk& high, const float2* angles) {
  for (int i = 0; i < 4; ++i) {
    float2 a = __bfloat1622float2(low.pairs[i]);
    float2 b = __bfloat1622float2(high.pairs[i]);
    rotate(a.x, b.x, angles[2 * i]);
    rotate(a.y, b.y, angles[2 * i + 1]);
    low.pairs[i] = __float22bfloat162_rn(a);
    high.pairs[i] = __float22bfloat162_rn(b);
  }
}

/// The two chunks of a head that thread `unit` of head_dim / 16 handles.
__device__ inline int2 chunks_of(int unit, const rotation& rope) {
  if (!rope.interleaved && unit < rope.dims / 16) return {unit, unit + rope.dims / 16};
  return {2 * unit, 2 * unit + 1};
}

/// Of a head that rotates; `at` as chunks_of gives it, `angles` the row's.
__device__ inline void rotate_chunks(chunk& a, chunk& b, int2 at, const rotation& rope, const float2* angles) {
  if (!rope.interleaved) return rotate_across(a, b, angles + 8 * at.x);
  rotate_within(a, angles + 4 * at.x);
  rotate_within(b, angles + 4 * at.y);
}

}  // namespace troupe::kernels::cuda
