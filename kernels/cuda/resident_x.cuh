// How a warp of the resident kernel lays out x for a format's products. Knows no op; of a format only what it wants of
// x.
#pragma once

#include "kernels/cuda/small_products.cuh"

namespace troupe::kernels::cuda::resident {

/// Where columns c and c + 1 of x lie, as two of 16 bits.
template <class F>
__device__ std::uint32_t* pair_place(std::uint8_t* x, int c) {
  if constexpr (!F::fragment_order) return reinterpret_cast<std::uint32_t*>(x + c * 2);
  else return reinterpret_cast<std::uint32_t*>(x + (c & ~31) * 2 + (c >> 3 & 3) * 4 + (c >> 1 & 3) * 16);
}

/// Writes columns c + 64 j and c + 64 j + 1 of the warp's own (a whole warp together, 64 or more columns) as the
/// format's products want them; what place_x of the few-rows kernel does for eight. Steps of all j together: each waits
/// for a shuffle.
template <class F, int Count>
__device__ void place_pairs(const float2 (&v)[Count], float scale, int c, int row, std::uint8_t* x, float* sums) {
  if constexpr (F::byte_x) {
    unsigned largest[Count];  // as bits: what is no number, or infinite, is the largest of all
#pragma unroll
    for (int j = 0; j < Count; ++j) largest[j] = max(__float_as_uint(fabsf(v[j].x)), __float_as_uint(fabsf(v[j].y)));
#pragma unroll
    for (int o = 1; o <= 8; o *= 2)
#pragma unroll
      for (int j = 0; j < Count; ++j) largest[j] = max(largest[j], __shfl_xor_sync(~0u, largest[j], o));
#pragma unroll
    for (int j = 0; j < Count; ++j) {
      const float most = __uint_as_float(largest[j]), inverse = most > 0.0f ? __fdividef(127.0f, most) : 0.0f;
      const int at = c + j * 64;
      std::uint8_t* const to = x + (at & ~31) + (at >> 4 & 1) * 4 + (at >> 3 & 1) + (at >> 1 & 3) * 8;
      to[0] = static_cast<std::uint8_t>(__float2int_rn(v[j].x * inverse));
      to[2] = static_cast<std::uint8_t>(__float2int_rn(v[j].y * inverse));
      if ((c & 31) == 0)
        sums[at / 32 * 8 + row] =
            largest[j] < 0x7f800000u ? most * (1.0f / (127.0f * 16.0f)) : __uint_as_float(0x7fffffffu);
    }
  } else {
    const bool upper = F::fragment_order && (c & 16);
    const float factor = upper ? scale * F::upper_x : scale;
    float start[Count];
#pragma unroll
    for (int j = 0; j < Count; ++j) {
      const unsigned two = pack_two<F::half_x>(v[j].x * factor, v[j].y * factor);
      *pair_place<F>(x, c + j * 64) = two;
      if constexpr (F::sums > 0) {
        const float2 rounded = __half22float2(*reinterpret_cast<const __half2*>(&two));
        start[j] = -(upper ? F::upper_offset : F::offset) * (rounded.x + rounded.y);
      }
    }
    if constexpr (F::sums > 0) {
      static_assert(F::sums == 1);
#pragma unroll
      for (int o = 1; o <= 8; o *= 2)
#pragma unroll
        for (int j = 0; j < Count; ++j) start[j] += __shfl_xor_sync(~0u, start[j], o);
#pragma unroll
      for (int j = 0; j < Count; ++j)
        if ((c & 31) == 0) sums[(c + j * 64) / 32 * 8 + row] = start[j];
    }
  }
}

}  // namespace troupe::kernels::cuda::resident
