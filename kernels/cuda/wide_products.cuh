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

#include "kernels/cuda/wide_sums.cuh"

namespace troupe::kernels::cuda {

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
  if (clusters) cluster_meet();
  else __syncthreads();
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
    if (clusters && !shape::has_inbox) cluster_meet();
    if (clusters) cluster_meet();
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
      if (clusters && !shape::has_inbox) cluster_meet();  // nobody's ring is read any more
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
