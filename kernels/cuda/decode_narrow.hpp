// What decode attention does otherwise where K and V are a byte a number: a tile's products, the newest token, what
// lies behind it. Device code only; knows no split.
#pragma once

#include "kernels/cuda/decode_workspace.hpp"
#include "kernels/cuda/narrow_kv.cuh"

namespace troupe::kernels::cuda::decode {

/// One tile: the first `valid` of its tokens count. q: as query_columns holds them.
template <int D, kv_format F, class State>
__device__ void add_narrow(State& state, const std::byte* tile, const std::uint32_t (&q)[D / 8], int valid,
                           float scale) {
  constexpr int tile_bytes = kv_layout::tile_bytes_of(D, F);
  const int lane = threadIdx.x & 31, token = lane / 4;
  const auto* keys = reinterpret_cast<const uint4*>(tile) + lane;
  const auto* values = reinterpret_cast<const uint4*>(tile + tile_bytes) + lane;
  const auto scale_bits = [&](int value, int at) -> unsigned {
    return *reinterpret_cast<const std::uint16_t*>(tile + value * tile_bytes + kv_layout::scale_offset(D, at));
  };
  float even[4] = {}, odd[4] = {};
#pragma unroll
  for (int s = 0; s < D / 16; s += 2) {
    const uint4 two = keys[s * 16];
    multiply_add_narrow<F>(even, two.x, two.y, q[2 * s], q[2 * s + 1]);
    multiply_add_narrow<F>(odd, two.z, two.w, q[2 * s + 2], q[2 * s + 3]);
  }
  float score[4];
  unsigned weight[2];  // of the lane's two tokens' values
  for (int half = 0; half < 2; ++half) {
    const int at = token + half * 8;
    const float of_key = __uint_as_float(scale_bits(0, at) << 16) * scale;
    for (int i = 2 * half; i < 2 * half + 2; ++i) score[i] = at < valid ? (even[i] + odd[i]) * of_key : minus_infinity;
    weight[half] = at < valid ? scale_bits(1, at) << 16 : 0;
  }
  float shrink[2];
  state.soften(score, shrink);
  const float most = __uint_as_float(__reduce_max_sync(~0u, max(weight[0], weight[1])));
  if (!(most <= state.unit)) {
    shrink[0] *= state.unit / most;
    shrink[1] *= state.unit / most;
    state.unit = most;
    state.inverse_unit = 1.0f / most;
  }
  state.shrink_out(shrink);
  const float first = __uint_as_float(weight[0]) * state.inverse_unit,
              second = __uint_as_float(weight[1]) * state.inverse_unit;
  const std::uint32_t low = transpose_matrix(pack_f16(score[0] * first, score[1] * first));
  const std::uint32_t high = transpose_matrix(pack_f16(score[2] * second, score[3] * second));
#pragma unroll
  for (int m = 0; m < D / 16; m += 2) {
    const uint4 two = values[m * 16];
    multiply_add_narrow<F>(state.out[m], two.x, two.y, low, high);
    multiply_add_narrow<F>(state.out[m + 1], two.z, two.w, low, high);
  }
}

/// The sequence's newest token: all lanes look for its largest number, those beyond the head's for one found already.
template <int D, kv_format F>
__device__ void add_newest_narrow(std::byte* tile, const bf16 (&newest)[2][D], const kv_layout& kv, std::byte* arena,
                                  int token) {
  const int lane = threadIdx.x & 31;
  const int value = lane / (D / 8) % 2, at = lane % (D / 8);
  const chunk c = reinterpret_cast<const chunk*>(newest[value])[at];
  float most = largest(c, 0.0f);
  for (int step = 1; step < D / 8; step *= 2) most = larger(most, __shfl_xor_sync(~0u, most, step));
  if (lane >= D / 4) return;
  std::byte *here = tile + value * kv_layout::tile_bytes_of(D, F), *there = arena + value * kv.value_offset();
  const bf16 scale = scale_for<F>(most);
  store_narrow<F>(c, scale, value, token, at, here, there);
  if (at > 0) return;
  *reinterpret_cast<bf16*>(here + kv_layout::scale_offset(D, token)) = scale;
  *reinterpret_cast<bf16*>(there + kv_layout::scale_offset(D, token)) = scale;
}

/// 0 * NaN is NaN: values from token `valid` on become zeros.
template <int D, kv_format F>
__device__ void clear_narrow(std::byte* tile, int valid) {
  __syncwarp();  // the newest token's bytes lie among these
  const int lane = threadIdx.x & 31;
  std::uint32_t real = 0;  // of the lane's columns, the same in all words
  for (int i = 0; i < 4; ++i)
    if (lane % 4 * 2 + i % 2 + i / 2 * 8 < valid) real |= 0xffu << (8 * i);
  for (int at = lane * 16; at < block_tokens * D; at += 512) {
    auto& four = *reinterpret_cast<uint4*>(tile + kv_layout::tile_bytes_of(D, F) + at);
    four = {four.x & real, four.y & real, four.z & real, four.w & real};
  }
}

}  // namespace troupe::kernels::cuda::decode
