// The product kernel for more rows than one mma takes, on Hopper: weights arrive in shared memory as they are stored,
// become bf16 A operands in registers (bf16 itself is read in place), and meet x (B, from shared memory) in wgmma.
// Nothing dequantised is ever stored.
//
// A block makes tiles of 128 (of small matrices 64) weight rows a warp group x N tokens: one warp keeps a ring of
// stages full, the warp groups multiply. Few tokens (one warp group): the columns of a tile are split among the blocks
// of a cluster, each of which adds up what all have of some tokens; two blocks share an SM, so that a kernel's weights
// come while its predecessor ends. Up to 16 tokens of fp8 and 256 of bf16: x comes before its norm, a warp finds the
// length that the sums are divided by meanwhile, and the product may write its reader's x. Many tokens (two warp
// groups): whole tiles, no split. So the order of a sum depends on the matrix, and on which of these it is.
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

/// `Each`: tiles of 64 weight rows that a warp group has.
template <class F, int N, int Groups, int Each>
struct wide_shape {
  static constexpr int x_bytes = N * F::columns * (F::bytes ? 1 : 2);
  static constexpr int scale_chunk_bytes = 64 * F::scale_bytes;
  static constexpr int chunks = Each * Groups;
  static constexpr int stage_bytes = x_bytes + chunks * (F::chunk_bytes + scale_chunk_bytes);
  // One warp group: a tile's sums, and the shares that others send, lie where the ring was, the latter beside it where
  // there is room. Two: 32 tokens at a time beside it.
  static constexpr bool has_inbox = Groups == 1 && Each == 1;
  static constexpr int inbox_bytes = Each * (N < 64 ? 64 : N) * 256;
  static constexpr int out_bytes = has_inbox ? inbox_bytes : Groups > 1 ? Groups * 32 * 256 : 0;
  static constexpr int blocks = Groups == 1 ? 2 : 1;  // an SM: this kernel's and its successor's
  static constexpr bool fused = F::in_place && (!F::bytes || N <= narrow_rows);
  static constexpr int x_scale_bytes = F::bytes && fused ? 2 * N * 4 : 0;  // a stage's, in a ring of their own
  static constexpr int stages_fit =
      ((blocks == 2 ? 113 : 226) * 1024 - 256 - N * 4 - out_bytes) / (stage_bytes + x_scale_bytes);
  static constexpr int stages = stages_fit > 12 ? 12 : stages_fit;
  static constexpr int bytes = stages * (stage_bytes + x_scale_bytes) + out_bytes + N * 4 + 256;
  static constexpr int threads = Groups * 128 + (Groups == 1 ? fused ? 64 : 32 : 128);
  static_assert(stages >= 2);
  static_assert(Groups > 1 || stages * stage_bytes >= (has_inbox ? 0 : inbox_bytes) + Each * N * 256);
};

/// The tiles of one block in order, and the groups of columns [first, end) that it takes of each. Where columns are
/// split a block has one tile, which its place in the grid names: nothing to divide by what only the launch knows.
template <bool Split>
struct wide_walk {
  int tile, tiles, first, end, group;
  __device__ explicit wide_walk(const wide_arguments& a) {
    const int rank = Split ? blockIdx.x & (a.split - 1) : 0;
    tile = Split ? 0 : blockIdx.x;
    tiles = Split ? 1 : a.weight_tiles * a.token_tiles;
    first = group = Split ? a.groups * rank >> a.split_bits : 0;
    end = Split ? a.groups * (rank + 1) >> a.split_bits : a.groups;
  }
  __device__ bool done() const { return tile >= tiles; }
  __device__ void next_tile() { tile += Split ? 1 : gridDim.x; }
  __device__ void next_group() {
    if (++group == end) group = first, next_tile();
  }
  /// Of `tile`: which of the weights, which of the tokens.
  __device__ int weights(const wide_arguments& a) const { return Split ? blockIdx.z : tile / a.token_tiles; }
  __device__ int tokens(const wide_arguments& a) const { return Split ? blockIdx.y : tile % a.token_tiles; }
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

/// One stage of packed weights: 128 columns of a warp group's rows, two blocks of 32 columns in flight.
template <class F, int N, class Release>
__device__ __forceinline__ void multiply_packed(float (&d)[2][N / 2], const std::uint8_t* chunks,
                                                const std::uint8_t* scale_chunks, unsigned x, const Release& release) {
  const int lane = threadIdx.x & 31, warp = (threadIdx.x & 127) >> 5;
  uint4 lo[2][F::quads], hi[2][F::quads], d_lo[2] = {}, d_hi[2] = {};
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    constexpr int unit_bytes = F::chunk_bytes / 8;
    const std::uint8_t* const mine = chunks + i * F::chunk_bytes + warp * 2 * unit_bytes + lane * 16;
#pragma unroll
    for (int q = 0; q < F::quads; ++q) {
      lo[i][q] = *reinterpret_cast<const uint4*>(mine + q * 512);
      hi[i][q] = *reinterpret_cast<const uint4*>(mine + unit_bytes + q * 512);
    }
    const std::uint8_t* const scales = scale_chunks + (i * 64 + warp * 16 + (lane >> 2)) * F::scale_bytes;
    if constexpr (F::scale_bytes == 8) {
      const uint2 l = *reinterpret_cast<const uint2*>(scales), h = *reinterpret_cast<const uint2*>(scales + 64);
      d_lo[i] = {l.x, l.y, 0, 0};
      d_hi[i] = {h.x, h.y, 0, 0};
    } else {
      d_lo[i] = *reinterpret_cast<const uint4*>(scales);
      d_hi[i] = *reinterpret_cast<const uint4*>(scales + 128);
    }
  }
  unsigned operand[2][2][2][4];
#pragma unroll
  for (int b = 0; b < 4; ++b) {
#pragma unroll
    for (int i = 0; i < 2; ++i)
      F::operands(lo[i], hi[i], d_lo[i], d_hi[i], b, operand[b & 1][i][0], operand[b & 1][i][1]);
    hopper::wgmma_fence();
#pragma unroll
    for (int step = 0; step < 2; ++step) {
      const std::uint64_t at = hopper::operand_at(x + (b >> 1) * (N * 128) + (b & 1) * 64 + step * 32);
      hopper::wgmma<N>(d[0], operand[b & 1][0][step], at);
      hopper::wgmma<N>(d[1], operand[b & 1][1][step], at);
    }
    hopper::wgmma_commit();
    hopper::wgmma_wait<1>();
    if (b == 0) release();
  }
}

/// One stage of rows of 128 bytes, read in place; `w`, `x`: where, as operand_place says it. fp8 of up to 16 tokens: a
/// short sum of 64 columns joins the long one outside of the unit, with the scale that x has there. Of more a block's
/// whole share of the columns stays in the unit.
template <class F, int N, int Each, class Release>
__device__ __forceinline__ void multiply_in_place(float (&d)[Each][N / 2], unsigned w, unsigned x,
                                                  const float* x_scales, const Release& release) {
  if constexpr (F::bytes && N == narrow_rows) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float part[Each][N / 2];
      hopper::wgmma_fence();
#pragma unroll
      for (int step = 0; step < 2; ++step)
#pragma unroll
        for (int i = 0; i < Each; ++i) {
          const int at = (2 * half + step) * 2;
          hopper::wgmma_fp8<N>(part[i], hopper::operand(w + i * (F::chunk_bytes / 16) + at), hopper::operand(x + at),
                               step);
        }
      hopper::wgmma_commit();
      const float* const scales = x_scales + half * N + (threadIdx.x & 3) * 2;
      hopper::wgmma_wait<0>();
#pragma unroll
      for (int j = 0; j < N / 8; ++j) {
        const float2 scale = *reinterpret_cast<const float2*>(scales + j * 8);
#pragma unroll
        for (int e = 0; e < 4; ++e)
#pragma unroll
          for (int i = 0; i < Each; ++i) d[i][4 * j + e] += part[i][4 * j + e] * ((e & 1) ? scale.y : scale.x);
      }
    }
  } else {
    hopper::wgmma_fence();
#pragma unroll
    for (int step = 0; step < 4; ++step)
#pragma unroll
      for (int i = 0; i < Each; ++i) {
        const std::uint64_t rows = hopper::operand(w + i * (F::chunk_bytes / 16) + step * 2),
                            tokens = hopper::operand(x + step * 2);
        if constexpr (F::bytes) hopper::wgmma_fp8<N>(d[i], rows, tokens, 1);
        else hopper::wgmma_bf16<N>(d[i], rows, tokens, 1);
      }
    hopper::wgmma_commit();
    hopper::wgmma_wait<1>();
  }
  release();
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

template <class F, int N, int Groups, int Each>
__global__ void __launch_bounds__((wide_shape<F, N, Groups, Each>::threads), Groups == 1 ? 2 : 1)
    wide_product_kernel(const __grid_constant__ wide_arguments a, const __grid_constant__ CUtensorMap x_map,
                        const __grid_constant__ CUtensorMap w_map) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using namespace hopper;
  using shape = wide_shape<F, N, Groups, Each>;
  constexpr bool splits = Groups == 1;
  extern __shared__ __align__(1024) std::uint8_t stages[];
  float* const beside = reinterpret_cast<float*>(stages + shape::stages * shape::stage_bytes);
  float* const x_scales = beside + shape::out_bytes / 4;
  float* const factors = x_scales + shape::stages * shape::x_scale_bytes / 4;
  std::uint64_t* const full = reinterpret_cast<std::uint64_t*>(factors + N);
  std::uint64_t* const empty = full + shape::stages;
  std::uint64_t* const inbox_full = empty + shape::stages;
  // From one lane, so that the compiler knows that a warp's lanes agree.
  const int warp_group = __shfl_sync(~0u, threadIdx.x >> 7, 0);
  const bool copies = threadIdx.x == Groups * 128;
  using walk = wide_walk<splits>;
  const auto copy_weights = [&](const walk& at, int stage) {
    std::uint8_t* const to = stages + stage * shape::stage_bytes + shape::x_bytes;
    barrier_expect(full + stage, shape::stage_bytes + shape::x_scale_bytes);
    const int w_tile = at.weights(a);
#pragma unroll
    for (int i = 0; i < shape::chunks; ++i) {
      const int wanted = a.half64 ? w_tile * Groups + (i >> 1) + (i & 1) * a.half64 : w_tile * shape::chunks + i;
      const int r64 = wanted < a.n64 ? wanted : a.n64 - 1;
      if constexpr (F::in_place) {
        copy_tile(to + i * F::chunk_bytes, &w_map, at.group * F::columns, r64 * 64, full + stage);
      } else {
        const long chunk = static_cast<long>(r64) * a.groups + at.group;
        copy_bulk(to + i * F::chunk_bytes, a.data + chunk * F::chunk_bytes, F::chunk_bytes, full + stage);
        copy_bulk(to + shape::chunks * F::chunk_bytes + i * shape::scale_chunk_bytes,
                  a.scales + chunk * shape::scale_chunk_bytes, shape::scale_chunk_bytes, full + stage);
      }
    }
  };
  // Of the tokens that this block will finish, the others after some have added up its sums.
  const int owners = min(a.split, N / 8), finished = max(N >> a.split_bits, 8);
  const int rank = splits ? blockIdx.x & (a.split - 1) : 0;
  const bool clusters = splits && a.split > 1;
  walk weights(a);
  const int own_token = splits ? weights.tokens(a) * N : 0;
  if (copies) {
#pragma unroll 1
    for (int i = 0; i < shape::stages; ++i) barrier_init(full + i, 1), barrier_init(empty + i, 4 * Groups);
    barrier_init(inbox_full, 1);
    if (splits && rank < owners) barrier_expect(inbox_full, a.split * finished * Each * 256);
    barriers_ready();
    // Weights depend on no one: the first stages' are under way before the predecessor ends.
#pragma unroll 1
    for (int i = 0; i < shape::stages && !weights.done(); ++i, weights.next_group()) copy_weights(weights, i);
  }
  if (clusters) {
    cluster_arrive();
    cluster_wait();
  } else {
    __syncthreads();
  }
  let_successor_start();
  float d[Each][N / 2];
  const auto first64 = [&](const walk& at) {
    const int w_tile = at.weights(a);
    return a.half64 ? w_tile * Groups + warp_group : w_tile * shape::chunks + warp_group * Each;
  };

  const int up64 = a.half64 ? a.half64 : 1;
  // Of this block's only tile. Where blocks have more, there are no such constants.
  const int own64 = splits ? first64(weights) : 0;
  const column_constants constants(a, own64 * 64, F::bytes, shape::fused && warp_group < Groups);
  const column_constants more_constants(a, (own64 + up64) * 64, F::bytes,
                                        shape::fused && Each == 2 && warp_group < Groups);
  if (warp_group == Groups) {
    if constexpr (Groups > 1) fewer_registers<24>();
    if (copies) {
      const auto copy_x = [&](const walk& at, int stage) {
        for (int panel = 0; panel < shape::x_bytes / (N * 128); ++panel) {
          std::uint8_t* const to = stages + stage * shape::stage_bytes + panel * N * 128;
          const int column = at.group * F::columns + panel * 64, token = at.tokens(a) * N;
          copy_tile(to, &x_map, column, token, full + stage);
        }
        if constexpr (shape::x_scale_bytes > 0)
          for (int half = 0; half < 2; ++half)
            copy_bulk(x_scales + (stage * 2 + half) * N, a.x_scale + (at.group * 2 + half) * N, N * 4, full + stage);
      };
      walk x(a);
      prefetch_map(&x_map);
      wait_for_predecessor();
#pragma unroll 1
      for (int i = 0; i < shape::stages && !x.done(); ++i, x.next_group()) copy_x(x, i);
      int stage = 0;
      unsigned phase = 0;
#pragma unroll 1
      for (; !weights.done(); weights.next_group()) {
        barrier_wait(empty + stage, phase);
        copy_weights(weights, stage);
        copy_x(weights, stage);
        if (++stage == shape::stages) stage = 0, phase ^= 1;
      }
    }
    if constexpr (shape::fused) {
      if (threadIdx.x >= Groups * 128 + 32 && a.squares) {
        wait_for_predecessor();
        find_factors<N>(a, own_token, factors);
        factors_there();
      }
    }
    if (clusters && !shape::has_inbox) cluster_arrive(), cluster_wait();
    if (clusters) cluster_arrive(), cluster_wait();
  } else {
    if constexpr (Groups > 1) more_registers<240>();
    wait_for_predecessor();
    const int lane = threadIdx.x & 31;
    // What this block will add its tokens to, asked for early if they are few.
    constexpr int ahead = shape::fused && Each == 1 && N >= 32 ? N / 16 : 1;
    float4 before[Each][ahead] = {};
    const bool has_before = shape::fused && finished <= 8 * ahead && a.output == product_output::add_f32;
    if (has_before && rank < owners) {
      const int first = own_token + rank * finished + (threadIdx.x >> 4), n = own64 * 64 + (threadIdx.x & 15) * 4;
#pragma unroll
      for (int i = 0; i < Each; ++i)
#pragma unroll
        for (int j = 0; j < ahead; ++j)
          if (j * 8 < finished && first + j * 8 < a.rows && n + i * 64 < a.n)
            before[i][j] = *reinterpret_cast<const float4*>(static_cast<const float*>(a.out) +
                                                            (first + j * 8) * a.out_stride + n + i * 64);
    }
    int stage = 0;
    unsigned phase = 0;
    const unsigned x_place = operand_place(shared_address(stages)),
                   w_place =
                       operand_place(shared_address(stages) + shape::x_bytes + warp_group * Each * F::chunk_bytes);
    for (walk at(a); !at.done(); at.next_tile()) {
#pragma unroll
      for (int i = 0; i < Each; ++i)
#pragma unroll
        for (int j = 0; j < N / 2; ++j) d[i][j] = 0.0f;
      int previous = -1;
      const auto release = [&] {
        if (previous >= 0 && lane == 0) barrier_arrive(empty + previous);
      };
      for (int group = at.first; group < at.end; ++group) {
        const std::uint8_t* const from = stages + stage * shape::stage_bytes;
        const std::uint8_t* const chunks = from + shape::x_bytes + warp_group * Each * F::chunk_bytes;
        barrier_wait(full + stage, phase);
        if constexpr (F::in_place) {
          const int on = stage * (shape::stage_bytes / 16);
          multiply_in_place<F, N, Each>(d, w_place + on, x_place + on, x_scales + stage * 2 * N, release);
        } else {
          multiply_packed<F, N>(
              d, chunks,
              from + shape::x_bytes + shape::chunks * F::chunk_bytes + warp_group * Each * shape::scale_chunk_bytes,
              shared_address(from), release);
        }
        previous = stage;
        if (++stage == shape::stages) stage = 0, phase ^= 1;
      }
      wgmma_wait<0>();
      release();
      if constexpr (shape::fused)
        if (a.squares) factors_awaited();
      if constexpr (!splits) {
        float* const mine = beside + warp_group * 32 * 64;
        const int first = first64(at), token = at.tokens(a) * N;
        if (a.half64) {
#pragma unroll
          for (int j = 0; j < N / 2; ++j) d[0][j] = silu_times(d[0][j], d[1][j]);
        }
#pragma unroll
        for (int part = 0; part < N; part += 32)
#pragma unroll
          for (int i = 0; i < Each; ++i) {
            if (i > 0 && a.half64) continue;
            group_sync(1 + warp_group);
            lay_out<32>(d[i], part, mine);
            group_sync(1 + warp_group);
            store_rows<false>(mine, 0, 1, 0, a, (first + i) * 64, a.half64 ? a.half64 * 64 : a.n, token + part, 32,
                              factors, constants, constants, before[0], false);
          }
      }
    }
    if constexpr (splits) {
      float* const inbox = shape::has_inbox ? beside : reinterpret_cast<float*>(stages);
      float* const own = reinterpret_cast<float*>(stages) + (shape::has_inbox ? 0 : shape::inbox_bytes / 4);
      if (clusters && !shape::has_inbox) {
        cluster_arrive();
        cluster_wait();  // nobody's ring is read any more
      }
      group_sync(1);
#pragma unroll
      for (int i = 0; i < Each; ++i) lay_out<N>(d[i], 0, own + i * N * 64);
      const float* sums = own;
      int stride = 0, of_tile = N * 64;
      group_sync(1);
      if (a.split > 1) {
        const int first = static_cast<int>(cluster_rank()) - rank;
#pragma unroll 1
        for (int at = threadIdx.x; at < Each * N * 16; at += 128) {
          const int i = at / (N * 16), token = at / 16 % N, owner = token * owners / N,
                    its = (rank * Each + i) * finished + token - owner * finished;
          store_cluster(in_block(shared_address(inbox + its * 64 + at % 16 * 4), first + owner),
                        *reinterpret_cast<const float4*>(own + at * 4),
                        in_block(shared_address(inbox_full), first + owner));
        }
        if (rank < owners) barrier_wait(inbox_full, 0);
        cluster_arrive();  // nobody leaves before all has come
        sums = inbox;
        of_tile = finished * 64, stride = of_tile * Each;
      }
      if (rank < owners) {
        const int n_end = a.half64 ? a.half64 * 64 : a.n, first_token = own_token + rank * finished;
        const float* const these = factors + rank * finished;
        store_rows<shape::fused>(sums, a.half64 ? of_tile : 0, a.split, stride, a, own64 * 64, n_end, first_token,
                                 finished, these, constants, more_constants, before[0], has_before);
        if (Each == 2 && !a.half64)
          store_rows<shape::fused>(sums + of_tile, 0, a.split, stride, a, own64 * 64 + 64, n_end, first_token, finished,
                                   these, more_constants, more_constants, before[Each - 1], has_before);
      }
      if (a.split > 1) cluster_wait();
    }
  }
#endif
}

}  // namespace troupe::kernels::cuda
