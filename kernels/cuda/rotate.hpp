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

/// What turns the two chunks of `unit` in each head of a row: nothing where they are beyond the rotated dims, or where
/// rows come rotated.
class row_angles {
public:
  __device__ row_angles() {}
  __device__ row_angles(const rotation& rope, std::int64_t row, int unit)
      : turns_(rope.angles && unit < rope.dims / 16), interleaved_(rope.interleaved) {
    if (!turns_) return;
    const auto* from = reinterpret_cast<const float4*>(rope.angles + row * (rope.dims / 2) + unit * 8);
    for (int i = 0; i < 4; ++i) {
      const float4 two = from[i];
      angles_[2 * i] = {two.x, two.y};
      angles_[2 * i + 1] = {two.z, two.w};
    }
  }
  __device__ void rotate(chunk& low, chunk& high) const {
    if (!turns_) return;
    if (!interleaved_) return rotate_across(low, high, angles_);
    rotate_within(low, angles_);
    rotate_within(high, angles_ + 4);
  }

private:
  float2 angles_[8];
  bool turns_ = false, interleaved_ = true;
};

}  // namespace troupe::kernels::cuda
