// What becomes of a tile's sums in the product kernel for more rows than one mma takes: how they lie in shared memory,
// their scales, the residual stream, silu, and the x of the product that reads them. Device code; multiplies nothing.
#pragma once

#include <cuda_fp8.h>

#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/products.hpp"
#include "kernels/cuda/wide_formats.cuh"

namespace troupe::kernels::cuda {

struct wide_arguments {
  const std::uint8_t* data;
  const std::uint8_t* scales;
  const float* row_scale;  // fp8: of weight rows
  const float* x_scale;    // fp8: of wide_input
  const float* squares;    // of wide_input; null: x is to be taken as it is
  int squares_count;
  float norm_width, eps;
  int n, half64;  // weight rows; silu: tiles of 64 rows in a half, else 0
  int n64;        // tiles of 64 rows
  int groups;     // stages along the columns
  int rows;       // tokens
  int weight_tiles, token_tiles;
  int split, split_bits;  // blocks that share a tile's columns: 1, 2, 4 or 8
  void* out;
  long out_stride;
  product_output output;
  wide_next next;  // what also becomes of add_f32; silu: what is written instead
};

__device__ inline float silu_times(float gate, float up) { return __fdividef(gate, 1.0f + __expf(-gate)) * up; }

/// Half a warp's 64 columns of x: its four of them, `column` first, for the reader of this token. As e4m3 they have a
/// scale of their own.
__device__ inline void store_next(const wide_next& next, int token, int column, float4 v, bool inside) {
  if (!next.bytes) {
    if (!inside) return;
    const __nv_bfloat162 x = __floats2bfloat162_rn(v.x, v.y), y = __floats2bfloat162_rn(v.z, v.w);
    *reinterpret_cast<uint2*>(static_cast<bf16*>(next.data) + token * next.stride + column) = {wide::as_word(x),
                                                                                               wide::as_word(y)};
    return;
  }
  float largest = fmaxf(fmaxf(fabsf(v.x), fabsf(v.y)), fmaxf(fabsf(v.z), fabsf(v.w)));
#pragma unroll
  for (int o = 8; o; o >>= 1) largest = fmaxf(largest, __shfl_xor_sync(0xffffu << (threadIdx.x & 16), largest, o));
  const float scale = largest > 0.0f ? 448.0f / largest : 1.0f;
  std::uint8_t* const to = static_cast<std::uint8_t*>(next.data) + token * next.stride + fp8_place(column);
  *reinterpret_cast<std::uint16_t*>(to) =
      __nv_cvt_float2_to_fp8x2({v.x * scale, v.y * scale}, __NV_SATFINITE, __NV_E4M3);
  *reinterpret_cast<std::uint16_t*>(to + 16) =
      __nv_cvt_float2_to_fp8x2({v.z * scale, v.w * scale}, __NV_SATFINITE, __NV_E4M3);
  if ((threadIdx.x & 15) == 0) next.scales[column / 64 * narrow_rows + token] = 1.0f / scale;
}

/// The same for a row that its reader will norm: times gain now, divided by its length when that is known.
__device__ inline void store_next_normed(const wide_next& next, int token, int column, float4 v, float4 gain,
                                         bool inside) {
  float squares = __fmaf_rn(v.w, v.w, __fmaf_rn(v.z, v.z, __fmaf_rn(v.y, v.y, __fmul_rn(v.x, v.x))));
#pragma unroll
  for (int o = 8; o; o >>= 1) squares += __shfl_xor_sync(0xffffu << (threadIdx.x & 16), squares, o);
  if ((threadIdx.x & 15) == 0 && column / 64 < next.squares_count)
    next.squares[column / 64 * fused_rows + token] = squares;
  store_next(next, token, column, {v.x * gain.x, v.y * gain.y, v.z * gain.z, v.w * gain.w}, inside);
}

/// Where a sum lies in shared memory: rows of 64 weight rows' sums, a row a token, so turned that neither side meets
/// itself in a bank.
__device__ inline int sum_place(int token, int row) { return token * 64 + (row ^ (token >> 1 & 3) * 8); }

/// From registers to there: a warp group's 64 weight rows, `Count` tokens from `first` on, that one at `to`.
template <int Count, int Sums>
__device__ __forceinline__ void lay_out(const float (&d)[Sums], int first, float* to) {
  const int lane = threadIdx.x & 31, t = lane & 3, row = (threadIdx.x & 127) >> 5 << 4 | lane >> 2;
  float* const even[2] = {to + sum_place(2 * t, row), to + sum_place(2 * t, row + 8)};
#pragma unroll
  for (int j = 0; j < Count / 2; ++j) even[j >> 1 & 1][(j / 4 * 8 + (j & 1)) * 64] = d[first / 2 + j];
}

__device__ inline float4 sum_of(const float* sums, int sources, int stride, int place) {
  float4 v = *reinterpret_cast<const float4*>(sums + place);
#pragma unroll 1
  for (int i = 1; i < sources; ++i) {
    const float4 more = *reinterpret_cast<const float4*>(sums + i * stride + place);
    v = {v.x + more.x, v.y + more.y, v.z + more.z, v.w + more.w};
  }
  return v;
}
__device__ inline float4 times(float4 v, float4 f) { return {v.x * f.x, v.y * f.y, v.z * f.z, v.w * f.w}; }

/// A thread's four columns of 64: what it will want at a tile's end and no kernel writes, asked for at its beginning,
/// since nothing but weights passes through the caches in between.
struct column_constants {
  float4 row_scale;  // fp8
  float4 gain;       // the reader's
  __device__ column_constants(const wide_arguments& a, int first_n, bool scaled, bool next) {
    const int n = first_n + (threadIdx.x & 15) * 4;
    row_scale = scaled && n < a.n ? *reinterpret_cast<const float4*>(a.row_scale + n) : float4{1.0f, 1.0f, 1.0f, 1.0f};
    gain = next && a.next.gain && n < a.n ? *reinterpret_cast<const float4*>(a.next.gain + n) : float4{};
  }
};

/// Sums of one warp group's 64 weight rows (`up`: and of those that silu of them is multiplied with), as they lie in
/// shared memory from `sources` blocks, to what is wanted of them. Not unrolled: what runs once waits for its
/// instructions. `factors`: of these tokens; `first_before`: out as it was, of this thread's tokens, if `has_before`.
template <bool Next, int Ahead>
__device__ __forceinline__ void store_rows(const float* sums, int up, int sources, int stride, const wide_arguments& a,
                                           int first_n, int n_end, int first_token, int tokens, const float* factors,
                                           const column_constants& constants, const column_constants& up_constants,
                                           const float4 (&first_before)[Ahead], bool has_before) {
  const int tid = threadIdx.x & 127, n = first_n + (tid & 15) * 4;
  const bool inside = n < n_end;
  float4 coming[Ahead];
#pragma unroll
  for (int i = 0; i < Ahead; ++i) coming[i] = first_before[i];
#pragma unroll 1
  for (int row = tid >> 4; row < tokens; row += 8) {
    const int token = first_token + row;
    // The half of a warp that has a token's 64 columns stays together: the reader's scales are theirs all.
    if (token >= a.rows || first_n >= n_end) return;
    const long at = token * a.out_stride + n;
    float4 before = {};
    if (a.output == product_output::add_f32 && inside)
      before = has_before ? coming[0] : *reinterpret_cast<const float4*>(static_cast<const float*>(a.out) + at);
#pragma unroll
    for (int i = 0; i + 1 < Ahead; ++i) coming[i] = coming[i + 1];
    const int place = sum_place(row, (tid & 15) * 4);
    float factor = 1.0f;
    if (Next ? a.squares != nullptr : a.row_scale != nullptr) factor = Next ? factors[row] : a.x_scale[token];
    const float4 all = {factor, factor, factor, factor};
    float4 v = times(times(sum_of(sums, sources, stride, place), all), constants.row_scale);
    if (up) {
      const float4 u = times(times(sum_of(sums + up, sources, stride, place), all), up_constants.row_scale);
      v = {silu_times(v.x, u.x), silu_times(v.y, u.y), silu_times(v.z, u.z), silu_times(v.w, u.w)};
    }
    if (a.output == product_output::f32 || a.output == product_output::add_f32) {
      v = {before.x + v.x, before.y + v.y, before.z + v.z, before.w + v.w};
      if (inside) *reinterpret_cast<float4*>(static_cast<float*>(a.out) + at) = v;
      if (Next && a.next.data) store_next_normed(a.next, token, n, v, constants.gain, inside);
    } else {
      const __nv_bfloat162 x = __floats2bfloat162_rn(v.x, v.y), y = __floats2bfloat162_rn(v.z, v.w);
      if (Next && a.next.data) {
        const float2 low = __bfloat1622float2(x), high = __bfloat1622float2(y);
        store_next(a.next, token, n, {low.x, low.y, high.x, high.y}, inside);
      } else if (inside) {
        *reinterpret_cast<uint2*>(static_cast<bf16*>(a.out) + at) = {wide::as_word(x), wide::as_word(y)};
      }
    }
  }
}

/// 1 / length of N tokens, by one warp beside those that multiply: a lane has a token or two, or half a one.
template <int N>
__device__ void find_factors(const wide_arguments& a, int first_token, float* factors) {
  constexpr int parts = N < 32 ? 32 / N : 1;
#pragma unroll
  for (int first = 0; first < N; first += 32) {
    const int token = first + threadIdx.x % (32 / parts), part = threadIdx.x % 32 / (32 / parts);
    const float* const from = a.squares + first_token + token;
    float sums[4] = {};
#pragma unroll 4
    for (int i = part; i < a.squares_count; i += 4 * parts)
#pragma unroll
      for (int j = 0; j < 4; ++j)
        if (i + parts * j < a.squares_count) sums[j] += from[(i + parts * j) * fused_rows];
    float sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    if (parts > 1) sum += __shfl_xor_sync(~0u, sum, 16);
    if (part == 0) factors[token] = rsqrtf(sum / a.norm_width + a.eps);
  }
}

}  // namespace troupe::kernels::cuda
