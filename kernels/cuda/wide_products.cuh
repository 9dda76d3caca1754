// The product kernel for more rows than one mma takes, on Hopper: weights arrive in shared memory as they are stored,
// become bf16 A operands in registers (bf16 itself is read in place), and meet x (B, from shared memory) in wgmma.
// Nothing dequantised is ever stored.
//
// A block makes tiles of 128 weight rows a warp group x N tokens: one warp keeps a ring of stages full, the warp groups
// multiply. Few tokens (one warp group): the columns of a tile are split among the blocks of a cluster, which add up
// through each other's shared memory; two blocks share an SM, so that a kernel's weights come while its predecessor
// ends. Up to 16 tokens of bf16 and fp8: x comes before its norm, a warp finds the length that the sums are divided by
// meanwhile, and the product may write its reader's x. Many tokens (two warp groups): whole tiles, no split. So the order
// of a sum depends on the matrix, and on which of these it is.
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
  int n, half64;           // weight rows; silu: tiles of 64 rows in a half, else 0
  int n64;                 // tiles of 64 rows
  int groups;              // stages along the columns
  int rows;                // tokens
  int weight_tiles, token_tiles;
  int split;               // blocks a cluster: 1, 2, 4 or 8
  void* out;
  long out_stride;
  product_output output;
  wide_next next;          // what also becomes of add_f32; silu: what is written instead
};

template <class F, int N, int Groups>
struct wide_shape {
  static constexpr int x_bytes = N * F::columns * (F::bytes ? 1 : 2);
  static constexpr int scale_chunk_bytes = 64 * F::scale_bytes;
  static constexpr int chunks = 2 * Groups;
  static constexpr int stage_bytes = x_bytes + chunks * (F::chunk_bytes + scale_chunk_bytes);
  static constexpr int out_pitch = 68;  // floats
  static constexpr int out_bytes = Groups * 32 * out_pitch * 4;
  static constexpr int blocks = Groups == 1 ? 2 : 1;  // an SM: this kernel's and its successor's
  static constexpr bool fused = F::in_place && N == fused_rows;
  static constexpr int x_scale_bytes = F::bytes && fused ? 2 * N * 4 : 0;  // a stage's, in a ring of their own
  static constexpr int stages_fit = ((blocks == 2 ? 112 : 226) * 1024 - 1024 - 256 - N * 4 - out_bytes) / (stage_bytes + x_scale_bytes);
  static constexpr int stages = stages_fit > 12 ? 12 : stages_fit;
  static constexpr int bytes = 1024 + stages * (stage_bytes + x_scale_bytes) + out_bytes + N * 4 + 256;
  static constexpr int threads = Groups * 128 + (Groups == 1 ? fused ? 64 : 32 : 128);
  static_assert(stages >= 2);
  static_assert(Groups > 1 || stages * stage_bytes >= 2 * N * 128 * 4);  // all shares of a tile
};

/// The tiles of one block in order, and the groups of columns [first, end) that it takes of each.
struct wide_walk {
  int tile, tiles, stride, first, end, group;
  __device__ wide_walk(const wide_arguments& a, bool split) {
    tiles = a.weight_tiles * a.token_tiles;
    const int rank = split ? blockIdx.x % a.split : 0, of = split ? a.split : 1;
    tile = blockIdx.x / of;
    stride = split ? tiles : gridDim.x;
    first = group = a.groups * rank / of;
    end = a.groups * (rank + 1) / of;
  }
  __device__ bool done() const { return tile >= tiles; }
  __device__ void next_tile() { tile += stride; }
  __device__ void next_group() {
    if (++group == end) group = first, next_tile();
  }
};

__device__ inline float silu_times(float gate, float up) { return gate / (1.0f + __expf(-gate)) * up; }

/// Half a warp's 64 columns of x: its four of them, `column` first, for the reader of this token. As e4m3 they have a
/// scale of their own.
__device__ inline void store_next(const wide_next& next, int token, int column, float4 v, bool inside) {
  if (!next.bytes) {
    if (!inside) return;
    const __nv_bfloat162 x = __floats2bfloat162_rn(v.x, v.y), y = __floats2bfloat162_rn(v.z, v.w);
    *reinterpret_cast<uint2*>(static_cast<bf16*>(next.data) + token * next.stride + column) = {wide::as_word(x), wide::as_word(y)};
    return;
  }
  float largest = fmaxf(fmaxf(fabsf(v.x), fabsf(v.y)), fmaxf(fabsf(v.z), fabsf(v.w)));
#pragma unroll
  for (int o = 8; o; o >>= 1) largest = fmaxf(largest, __shfl_xor_sync(0xffffu << (threadIdx.x & 16), largest, o));
  const float scale = largest > 0.0f ? 448.0f / largest : 1.0f;
  std::uint8_t* const to = static_cast<std::uint8_t*>(next.data) + token * next.stride + fp8_place(column);
  *reinterpret_cast<std::uint16_t*>(to) = __nv_cvt_float2_to_fp8x2({v.x * scale, v.y * scale}, __NV_SATFINITE, __NV_E4M3);
  *reinterpret_cast<std::uint16_t*>(to + 16) = __nv_cvt_float2_to_fp8x2({v.z * scale, v.w * scale}, __NV_SATFINITE, __NV_E4M3);
  if ((threadIdx.x & 15) == 0) next.scales[column / 64 * fused_rows + token] = 1.0f / scale;
}

/// The same for a row that its reader will norm: times gain now, divided by its length when that is known.
__device__ inline void store_next_normed(const wide_next& next, int token, int column, float4 v, float4 gain, bool inside) {
  float squares = __fmaf_rn(v.w, v.w, __fmaf_rn(v.z, v.z, __fmaf_rn(v.y, v.y, __fmul_rn(v.x, v.x))));
#pragma unroll
  for (int o = 8; o; o >>= 1) squares += __shfl_xor_sync(0xffffu << (threadIdx.x & 16), squares, o);
  if ((threadIdx.x & 15) == 0 && column / 64 < next.squares_count) next.squares[column / 64 * fused_rows + token] = squares;
  store_next(next, token, column, {v.x * gain.x, v.y * gain.y, v.z * gain.z, v.w * gain.w}, inside);
}

/// One warp group's 64 weight rows x N tokens, through shared memory so that rows of `out` are written in runs of 64.
template <int N, bool Next>
__device__ void store_tile(const float (&d)[N / 2], float* staging, int pitch, const wide_arguments& a, int first_n,
                           int n_end, int first_token, float4 gain, int barrier) {
  const int tid = threadIdx.x & 127, lane = tid & 31, g = lane >> 2, t = lane & 3;
#pragma unroll
  for (int part = 0; part < (N + 31) / 32; ++part) {
    float4 before[4];
    if (Next && a.output == product_output::add_f32) {
#pragma unroll
      for (int i = 0; i < (N < 32 ? N / 8 : 4); ++i) {
        const int token = first_token + part * 32 + i * 8 + (tid >> 4), n = first_n + (tid & 15) * 4;
        if (token < a.rows && n < n_end) before[i] = *reinterpret_cast<const float4*>(static_cast<const float*>(a.out) + token * a.out_stride + n);
      }
    }
    hopper::group_sync(barrier);
#pragma unroll
    for (int j = part * 4; j < part * 4 + 4 && j < N / 8; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e)
        staging[((j - part * 4) * 8 + 2 * t + (e & 1)) * pitch + (tid >> 5) * 16 + g + (e >> 1) * 8] = d[j * 4 + e];
    hopper::group_sync(barrier);
#pragma unroll
    for (int i = 0; i < (N < 32 ? N / 8 : 4); ++i) {
      const int row = i * 8 + (tid >> 4), token = first_token + part * 32 + row, n = first_n + (tid & 15) * 4;
      // The half of a warp that has a token's 64 columns stays together: the reader's scales are theirs all.
      if (token >= a.rows || first_n >= n_end) continue;
      const bool inside = n < n_end;
      float4 v = {};
      if (inside) v = *reinterpret_cast<const float4*>(staging + row * pitch + (tid & 15) * 4);
      const long at = token * a.out_stride + n;
      if (a.output == product_output::f32 || a.output == product_output::add_f32) {
        float4* to = reinterpret_cast<float4*>(static_cast<float*>(a.out) + at);
        if (a.output == product_output::add_f32 && inside) {
          const float4 old = Next ? before[i] : *to;
          v = {old.x + v.x, old.y + v.y, old.z + v.z, old.w + v.w};
        }
        if (inside) *to = v;
        if (Next && a.next.data) store_next_normed(a.next, token, n, v, gain, inside);
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
}

/// What a thread will want at a tile's end and no kernel writes: asked for at its beginning, since nothing but weights
/// passes through the caches in between.
struct tile_constants {
  float row_scale[2][2];  // fp8: of rows g and g + 8 of either 64
  float4 gain[2];         // the reader's, of the four columns that store_tile gives to a thread
  __device__ tile_constants(const wide_arguments& a, int first64, bool next) {
    const int lane = threadIdx.x & 31, warp = (threadIdx.x & 127) >> 5;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = min(first64 + i * (a.half64 ? a.half64 : 1), a.n64 - 1) * 64 + warp * 16 + (lane >> 2);
      row_scale[i][0] = a.row_scale ? a.row_scale[row] : 1.0f;
      row_scale[i][1] = a.row_scale ? a.row_scale[row + 8] : 1.0f;
      const int n = (first64 + i) * 64 + (threadIdx.x & 15) * 4;
      gain[i] = next && a.next.gain && n < a.n ? *reinterpret_cast<const float4*>(a.next.gain + n) : float4{};
    }
  }
};

/// What remains to be done with whole sums: 128 weight rows of a warp group x N tokens. `factors`: of those tokens.
template <int N, bool Next>
__device__ void finish_tile(float (&d)[2][N / 2], float* staging, int pitch, const wide_arguments& a, int first64, int token,
                            const float* factors, const tile_constants& constants, int barrier) {
  const int lane = threadIdx.x & 31;
  if (Next ? a.squares != nullptr : a.row_scale != nullptr) {
#pragma unroll
    for (int j = 0; j < N / 2; ++j) {
      const int at = j / 4 * 8 + (lane & 3) * 2 + (j & 1);
      const float factor = Next ? factors[at] : a.x_scale[min(token + at, a.rows - 1)];
      d[0][j] *= factor;
      d[1][j] *= factor;
    }
  }
  if (a.row_scale) {
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int j = 0; j < N / 2; ++j) d[i][j] *= constants.row_scale[i][j >> 1 & 1];
  }
  if (a.half64) {
#pragma unroll
    for (int i = 0; i < N / 2; ++i) d[0][i] = silu_times(d[0][i], d[1][i]);
    store_tile<N, Next>(d[0], staging, pitch, a, first64 * 64, a.half64 * 64, token, constants.gain[0], barrier);
  } else {
    store_tile<N, Next>(d[0], staging, pitch, a, first64 * 64, a.n, token, constants.gain[0], barrier);
    store_tile<N, Next>(d[1], staging, pitch, a, (first64 + 1) * 64, a.n, token, constants.gain[1], barrier);
  }
}

/// Adds the shares of a cluster's `Split` blocks, each block for some of the tokens, and finishes those. All threads of
/// all blocks call it when their rings are empty; `inbox` is where the ring was.
template <int N, int Split, bool Next>
__device__ void finish_shared(const float (&d)[2][N / 2], float* inbox, float* staging, int pitch, const wide_arguments& a,
                              int first64, int token, const float* factors, const tile_constants& constants, bool consumer) {
  constexpr int owners = Split < N / 8 ? Split : N / 8, kept = N / owners / 2;
  const unsigned tid = threadIdx.x & 127, rank = hopper::cluster_rank();
  hopper::cluster_sync();
  if (consumer) {
#pragma unroll
    for (int owner = 0; owner < owners; ++owner) {
      const unsigned to = hopper::in_block(hopper::shared_address(inbox + rank * 2 * kept * 128 + tid), owner);
#pragma unroll
      for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int j = 0; j < kept; ++j) hopper::store_cluster(to + (i * kept + j) * 512, d[i][owner * kept + j]);
    }
  }
  hopper::cluster_sync();
  if (!consumer || rank >= owners) return;
  float sum[2][kept] = {};
  for (int source = 0; source < Split; ++source)
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int j = 0; j < kept; ++j) sum[i][j] += inbox[(source * 2 * kept + i * kept + j) * 128 + tid];
  const int first = static_cast<int>(rank) * (N / owners);
  finish_tile<N / owners, Next>(sum, staging, pitch, a, first64, token + first, factors + first, constants, 1);
}

/// One stage of packed weights: 128 columns of a warp group's rows, two blocks of 32 columns in flight.
template <class F, int N>
__device__ __forceinline__ void multiply_packed(float (&d)[2][N / 2], const std::uint8_t* chunks, const std::uint8_t* scale_chunks,
                                                unsigned x, std::uint64_t* previous) {
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
    for (int i = 0; i < 2; ++i) F::operands(lo[i], hi[i], d_lo[i], d_hi[i], b, operand[b & 1][i][0], operand[b & 1][i][1]);
    hopper::wgmma_fence();
#pragma unroll
    for (int step = 0; step < 2; ++step) {
      const std::uint64_t at = hopper::operand_at(x + (b >> 1) * (N * 128) + (b & 1) * 64 + step * 32);
      hopper::wgmma<N>(d[0], operand[b & 1][0][step], at);
      hopper::wgmma<N>(d[1], operand[b & 1][1][step], at);
    }
    hopper::wgmma_commit();
    hopper::wgmma_wait<1>();
    if (b == 0 && previous && lane == 0) hopper::barrier_arrive(previous);
  }
}

/// One stage of rows of 128 bytes, read in place. fp8 of up to 16 tokens: a short sum of 64 columns joins the long one
/// outside of the unit, with the scale that x has there. Of more a block's whole share of the columns stays in the unit.
template <class F, int N>
__device__ __forceinline__ void multiply_in_place(float (&d)[2][N / 2], unsigned w, unsigned x, const float* x_scales,
                                                  std::uint64_t* previous) {
  if constexpr (F::bytes && N == fused_rows) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float part[2][N / 2];
      hopper::wgmma_fence();
#pragma unroll
      for (int step = 0; step < 2; ++step)
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int at = (2 * half + step) * 32;
          hopper::wgmma_fp8<N>(part[i], hopper::operand_at(w + i * F::chunk_bytes + at), hopper::operand_at(x + at), step);
        }
      hopper::wgmma_commit();
      const float* const scales = x_scales + half * N + (threadIdx.x & 3) * 2;
      hopper::wgmma_wait<0>();
#pragma unroll
      for (int j = 0; j < N / 8; ++j) {
        const float2 scale = *reinterpret_cast<const float2*>(scales + j * 8);
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          d[0][4 * j + e] += part[0][4 * j + e] * ((e & 1) ? scale.y : scale.x);
          d[1][4 * j + e] += part[1][4 * j + e] * ((e & 1) ? scale.y : scale.x);
        }
      }
    }
  } else {
    hopper::wgmma_fence();
#pragma unroll
    for (int step = 0; step < 4; ++step)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const std::uint64_t rows = hopper::operand_at(w + i * F::chunk_bytes + step * 32), tokens = hopper::operand_at(x + step * 32);
        if constexpr (F::bytes) hopper::wgmma_fp8<N>(d[i], rows, tokens, 1);
        else hopper::wgmma_bf16<N>(d[i], rows, tokens, 1);
      }
    hopper::wgmma_commit();
    hopper::wgmma_wait<1>();
  }
  if (previous && (threadIdx.x & 31) == 0) hopper::barrier_arrive(previous);
}

/// 1 / length of the tokens, by one warp beside those that multiply: two lanes a token.
__device__ inline void find_factors(const wide_arguments& a, float* factors) {
  const int token = threadIdx.x & 15, half = threadIdx.x >> 4 & 1;
  const float* const from = a.squares + token;
  float sums[4] = {};
#pragma unroll 4
  for (int i = half; i < a.squares_count; i += 8)
#pragma unroll
    for (int j = 0; j < 4; ++j)
      if (i + 2 * j < a.squares_count) sums[j] += from[(i + 2 * j) * fused_rows];
  float sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  sum += __shfl_xor_sync(~0u, sum, 16);
  if (half == 0) factors[token] = rsqrtf(sum / a.norm_width + a.eps);
}

template <class F, int N, int Groups>
__global__ void __launch_bounds__((wide_shape<F, N, Groups>::threads), Groups == 1 ? 2 : 1)
wide_product_kernel(const __grid_constant__ wide_arguments a, const __grid_constant__ CUtensorMap x_map,
                    const __grid_constant__ CUtensorMap w_map) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using namespace hopper;
  using shape = wide_shape<F, N, Groups>;
  constexpr bool splits = Groups == 1;
  extern __shared__ std::uint8_t raw[];
  std::uint8_t* const stages = raw + ((1024 - (shared_address(raw) & 1023)) & 1023);
  float* const staging = reinterpret_cast<float*>(stages + shape::stages * shape::stage_bytes);
  float* const x_scales = staging + shape::out_bytes / 4;
  float* const factors = x_scales + shape::stages * shape::x_scale_bytes / 4;
  std::uint64_t* const full = reinterpret_cast<std::uint64_t*>(factors + N);
  std::uint64_t* const empty = full + shape::stages;
  const int warp_group = threadIdx.x >> 7;
  if (threadIdx.x == 0) {
    for (int i = 0; i < shape::stages; ++i) barrier_init(full + i, 1), barrier_init(empty + i, 4 * Groups);
    barriers_ready();
  }
  __syncthreads();
  let_successor_start();
  float d[2][N / 2];
  const auto first64 = [&](int tile) {
    const int w_tile = tile / a.token_tiles;
    return a.half64 ? w_tile * Groups + warp_group : w_tile * shape::chunks + warp_group * 2;
  };

  // fp8 has one tile a block: row_scale is null where a block has more.
  const tile_constants constants(a, first64(blockIdx.x / (splits ? a.split : 1)), shape::fused && warp_group < Groups);
  if (warp_group == Groups) {
    if constexpr (Groups > 1) fewer_registers<24>();
    if (threadIdx.x == Groups * 128) {
      const auto copy_weights = [&](const wide_walk& at, int stage) {
        std::uint8_t* const to = stages + stage * shape::stage_bytes + shape::x_bytes;
        barrier_expect(full + stage, shape::stage_bytes + shape::x_scale_bytes);
        const int w_tile = at.tile / a.token_tiles;
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
      const auto copy_x = [&](const wide_walk& at, int stage) {
        for (int panel = 0; panel < shape::x_bytes / (N * 128); ++panel)
          copy_tile(stages + stage * shape::stage_bytes + panel * N * 128, &x_map, at.group * F::columns + panel * 64,
                    at.tile % a.token_tiles * N, full + stage);
        if constexpr (shape::x_scale_bytes > 0)
          for (int half = 0; half < 2; ++half)
            copy_bulk(x_scales + (stage * 2 + half) * N, a.x_scale + (at.group * 2 + half) * N, N * 4, full + stage);
      };
      wide_walk weights(a, splits), x(a, splits);
      // Weights depend on no one: the first stages' are under way before the predecessor ends.
      for (int i = 0; i < shape::stages && !weights.done(); ++i, weights.next_group()) copy_weights(weights, i);
      wait_for_predecessor();
      for (int i = 0; i < shape::stages && !x.done(); ++i, x.next_group()) copy_x(x, i);
      int stage = 0;
      unsigned phase = 0;
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
        find_factors(a, factors);
        hopper::factors_there();
      }
    }
    if constexpr (splits) {
      __syncwarp();
    }
  } else {
    if constexpr (Groups > 1) more_registers<240>();
    wait_for_predecessor();
    const int lane = threadIdx.x & 31;
    int stage = 0;
    unsigned phase = 0;
    for (wide_walk at(a, splits); !at.done(); at.next_tile()) {
#pragma unroll
      for (int i = 0; i < N / 2; ++i) d[0][i] = d[1][i] = 0.0f;
      std::uint64_t* previous = nullptr;
      for (int group = at.first; group < at.end; ++group) {
        const std::uint8_t* const from = stages + stage * shape::stage_bytes;
        const std::uint8_t* const chunks = from + shape::x_bytes + warp_group * 2 * F::chunk_bytes;
        barrier_wait(full + stage, phase);
        if constexpr (F::in_place) {
          multiply_in_place<F, N>(d, shared_address(chunks), shared_address(from), x_scales + stage * 2 * N, previous);
        } else {
          multiply_packed<F, N>(d, chunks, from + shape::x_bytes + shape::chunks * F::chunk_bytes + warp_group * 2 * shape::scale_chunk_bytes,
                                shared_address(from), previous);
        }
        previous = empty + stage;
        if (++stage == shape::stages) stage = 0, phase ^= 1;
      }
      wgmma_wait<0>();
      if (previous && lane == 0) barrier_arrive(previous);
      if constexpr (shape::fused)
        if (a.squares) factors_awaited();
      if (!splits || a.split == 1)
        finish_tile<N, shape::fused>(d, staging + warp_group * 32 * shape::out_pitch, shape::out_pitch, a, first64(at.tile),
                       at.tile % a.token_tiles * N, factors, constants, 1 + warp_group);
    }
  }
  if constexpr (splits) {
    const int tile = blockIdx.x / a.split, token = tile % a.token_tiles * N;
    const bool consumer = warp_group == 0;
    float* const inbox = reinterpret_cast<float*>(stages);
    const int first = a.half64 ? tile / a.token_tiles : tile / a.token_tiles * 2;
    if (a.split == 2) finish_shared<N, 2, shape::fused>(d, inbox, staging, shape::out_pitch, a, first, token, factors, constants, consumer);
    if (a.split == 4) finish_shared<N, 4, shape::fused>(d, inbox, staging, shape::out_pitch, a, first, token, factors, constants, consumer);
    if (a.split == 8) finish_shared<N, 8, shape::fused>(d, inbox, staging, shape::out_pitch, a, first, token, factors, constants, consumer);
  }
#endif
}

}  // namespace troupe::kernels::cuda
