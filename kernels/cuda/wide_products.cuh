// The product kernel for more rows than one mma takes, on Hopper: weights arrive in shared memory as they are stored,
// become bf16 A operands in registers (bf16 itself is read in place), and meet x (B, from shared memory) in wgmma.
// Nothing dequantised is ever stored.
//
// A block makes tiles of 128 weight rows a warp group x N tokens: one warp keeps a ring of stages full, the warp groups
// multiply. Few tokens: each block takes an equal run of stages, so a tile may be shared by neighbours; the last of
// them to end adds all shares in order. Many tokens: whole tiles. So the order of a sum depends on the matrix, and on
// which of the two it is.
#pragma once

#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/products.hpp"
#include "kernels/cuda/wide_formats.cuh"

namespace troupe::kernels::cuda {

struct wide_arguments {
  const std::uint8_t* data;
  const std::uint8_t* scales;
  const float* row_scale;  // fp8
  int n, half64;  // weight rows; silu: tiles of 64 rows in a half, else 0
  int n64;        // tiles of 64 rows
  int groups;     // stages along the columns
  int rows;       // tokens
  int weight_tiles, token_tiles;
  int run;        // stages a block; 0: whole tiles
  float* shares;  // [2 a block][warp groups][N][128 threads]
  int* arrived;   // [weight tiles][warp groups], zero between launches
  void* out;
  long out_stride;
  product_output output;
};

template <class F, int N, int Groups>
struct wide_shape {
  static constexpr int x_bytes = N * F::columns * 2;
  static constexpr int scale_chunk_bytes = 64 * F::scale_bytes;
  static constexpr int chunks = 2 * Groups;
  static constexpr int stage_bytes = x_bytes + chunks * (F::chunk_bytes + scale_chunk_bytes);
  static constexpr int out_pitch = 68;  // floats
  static constexpr int out_bytes = Groups * 32 * out_pitch * 4;
  static constexpr int blocks = Groups == 1 ? 2 : 1;  // an SM: this kernel's and its successor's
  static constexpr int stages_fit = ((Groups == 1 ? 112 : 226) * 1024 - 1024 - 256 - out_bytes) / stage_bytes;
  static constexpr int stages = stages_fit > 12 ? 12 : stages_fit;
  static constexpr int bytes = 1024 + stages * stage_bytes + out_bytes + 256;
  static constexpr int threads = Groups * 128 + (Groups == 1 ? 32 : 128);
  static_assert(stages >= 2);
};

/// The stages of one block, in order: tiles, and the groups of columns [group, end) of each.
struct wide_walk {
  int step, last, stride, groups;  // stages numbered tile by tile
  int tile, group, end;
  __device__ wide_walk(const wide_arguments& a) {
    groups = a.groups;
    const int all = a.weight_tiles * a.token_tiles * groups;
    if (a.run > 0) step = blockIdx.x * a.run, last = min(all, step + a.run), stride = 0;
    else step = blockIdx.x * groups, last = all, stride = (gridDim.x - 1) * groups;
    settle();
  }
  __device__ bool done() const { return step >= last; }
  __device__ void settle() {
    tile = step / groups;
    group = step - tile * groups;
    end = min(groups, group + last - step);
  }
  __device__ void next_tile() {
    step += end - group + stride;
    settle();
  }
  __device__ void next_group() {
    if (group + 1 < end) ++group, ++step;
    else next_tile();
  }
};

__device__ inline float silu_times(float gate, float up) { return gate / (1.0f + __expf(-gate)) * up; }

/// One warp group's 64 weight rows x N tokens, through shared memory so that rows of `out` are written in runs of 64.
template <int N>
__device__ void store_tile(const float (&d)[N / 2], float* staging, int pitch, const wide_arguments& a, int first_n,
                           int n_end, int first_token, int barrier) {
  const int tid = threadIdx.x & 127, lane = tid & 31, g = lane >> 2, t = lane & 3;
#pragma unroll
  for (int part = 0; part < (N + 31) / 32; ++part) {
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
      if (token >= a.rows || n >= n_end) continue;
      const float4 v = *reinterpret_cast<const float4*>(staging + row * pitch + (tid & 15) * 4);
      const long at = token * a.out_stride + n;
      if (a.output == product_output::f32 || a.output == product_output::add_f32) {
        float4* to = reinterpret_cast<float4*>(static_cast<float*>(a.out) + at);
        float4 sum = v;
        if (a.output == product_output::add_f32) {
          const float4 old = *to;
          sum = {old.x + v.x, old.y + v.y, old.z + v.z, old.w + v.w};
        }
        *to = sum;
      } else {
        const __nv_bfloat162 x = __floats2bfloat162_rn(v.x, v.y), y = __floats2bfloat162_rn(v.z, v.w);
        *reinterpret_cast<uint2*>(static_cast<bf16*>(a.out) + at) = {wide::as_word(x), wide::as_word(y)};
      }
    }
  }
}

/// Leaves this block's share of a tile, and returns true with the whole sum in the block whose share came last.
template <int N, int Groups>
__device__ bool add_shares(float (&d)[2][N / 2], const wide_arguments& a, const wide_walk& at, int warp_group, int* word) {
  const int tid = threadIdx.x & 127, first = at.tile * at.groups / a.run, final = ((at.tile + 1) * at.groups - 1) / a.run;
  const auto share = [&](int slot) { return a.shares + (static_cast<long>(slot) * Groups + warp_group) * N * 128 + tid; };
  float* const mine = share(blockIdx.x * 2 + (at.group == 0));
#pragma unroll
  for (int i = 0; i < N / 2; ++i) {
    __stcg(mine + i * 128, d[0][i]);
    __stcg(mine + (N / 2 + i) * 128, d[1][i]);
  }
  __threadfence();
  hopper::group_sync(1 + warp_group);
  int* const count = a.arrived + at.tile * Groups + warp_group;
  if (tid == 0) word[warp_group] = atomicAdd(count, 1);
  hopper::group_sync(1 + warp_group);
  if (word[warp_group] != final - first) return false;
  __threadfence();
  if (tid == 0) *count = 0;
#pragma unroll
  for (int i = 0; i < N / 2; ++i) d[0][i] = d[1][i] = 0.0f;
  for (int block = first; block <= final; ++block) {
    const float* const from = share(block * 2 + (block == first));
#pragma unroll
    for (int i = 0; i < N / 2; ++i) {
      d[0][i] += __ldcg(from + i * 128);
      d[1][i] += __ldcg(from + (N / 2 + i) * 128);
    }
  }
  return true;
}

template <class F, int N, int Groups>
__global__ void __launch_bounds__(Groups * 128 + (Groups == 1 ? 32 : 128), Groups == 1 ? 2 : 1)
wide_product_kernel(const __grid_constant__ wide_arguments a, const __grid_constant__ CUtensorMap x_map,
                    const __grid_constant__ CUtensorMap w_map) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using namespace hopper;
  using shape = wide_shape<F, N, Groups>;
  extern __shared__ std::uint8_t raw[];
  std::uint8_t* const stages = raw + ((1024 - (shared_address(raw) & 1023)) & 1023);
  float* const staging = reinterpret_cast<float*>(stages + shape::stages * shape::stage_bytes);
  std::uint64_t* const full = reinterpret_cast<std::uint64_t*>(staging + shape::out_bytes / 4);
  std::uint64_t* const empty = full + shape::stages;
  int* const word = reinterpret_cast<int*>(empty + shape::stages);
  const int warp_group = threadIdx.x >> 7;
  if (threadIdx.x == 0) {
    for (int i = 0; i < shape::stages; ++i) barrier_init(full + i, 1), barrier_init(empty + i, 4 * Groups);
    barriers_ready();
  }
  __syncthreads();
  let_successor_start();

  if (warp_group == Groups) {
    if constexpr (Groups > 1) fewer_registers<24>();
    if (threadIdx.x == Groups * 128) {
      const auto chunk_of = [&](int tile, int i) {
        const int w_tile = tile / a.token_tiles;
        const int r64 = a.half64 ? w_tile * Groups + (i >> 1) + (i & 1) * a.half64 : w_tile * shape::chunks + i;
        return r64 < a.n64 ? r64 : a.n64 - 1;
      };
      const auto copy_weights = [&](const wide_walk& at, int stage) {
        std::uint8_t* const to = stages + stage * shape::stage_bytes + shape::x_bytes;
        barrier_expect(full + stage, shape::stage_bytes);
        for (int i = 0; i < shape::chunks; ++i) {
          const int r64 = chunk_of(at.tile, i);
          if constexpr (F::from == wide::source::units) {
            const long chunk = static_cast<long>(r64) * a.groups + at.group;
            copy_bulk(to + i * F::chunk_bytes, a.data + chunk * F::chunk_bytes, F::chunk_bytes, full + stage);
            copy_bulk(to + shape::chunks * F::chunk_bytes + i * shape::scale_chunk_bytes,
                      a.scales + chunk * shape::scale_chunk_bytes, shape::scale_chunk_bytes, full + stage);
          } else if constexpr (F::from == wide::source::matrix) {
            copy_tile(to + i * F::chunk_bytes, &w_map, at.group * 64, r64 * 64, full + stage);
          } else {
            copy_tile(to + i * F::chunk_bytes, &w_map, at.group * 128, r64 * 64, full + stage);
            copy_tile(to + i * F::chunk_bytes + F::quad_bytes, &w_map, at.group * 128 + 64, r64 * 64, full + stage);
          }
        }
      };
      const auto copy_x = [&](const wide_walk& at, int stage) {
        std::uint8_t* const to = stages + stage * shape::stage_bytes;
        for (int panel = 0; panel < F::columns / 64; ++panel)
          copy_tile(to + panel * N * 128, &x_map, at.group * F::columns + panel * 64, at.tile % a.token_tiles * N, full + stage);
      };
      wide_walk weights(a), x(a);
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
  } else {
    if constexpr (Groups > 1) more_registers<240>();
    wait_for_predecessor();
    const int lane = threadIdx.x & 31, warp = (threadIdx.x & 127) >> 5;
    int stage = 0, previous = -1;
    unsigned phase = 0;
    for (wide_walk at(a); !at.done(); at.next_tile()) {
      float d[2][N / 2];
#pragma unroll
      for (int i = 0; i < N / 2; ++i) d[0][i] = d[1][i] = 0.0f;
      for (int group = at.group; group < at.end; ++group) {
        const std::uint8_t* const from = stages + stage * shape::stage_bytes;
        const unsigned x = shared_address(from);
        barrier_wait(full + stage, phase);
        if constexpr (F::from == wide::source::matrix) {
          wgmma_fence();
#pragma unroll
          for (int step = 0; step < 4; ++step)
#pragma unroll
            for (int i = 0; i < 2; ++i)
              wgmma<N>(d[i], operand_at(x + shape::x_bytes + (warp_group * 2 + i) * F::chunk_bytes + step * 32),
                       operand_at(x + step * 32));
          wgmma_commit();
          wgmma_wait<1>();
          if (previous >= 0 && lane == 0) barrier_arrive(empty + previous);
        } else {
          uint4 lo[2][F::quads], hi[2][F::quads], d_lo[2] = {}, d_hi[2] = {};
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            const std::uint8_t* const chunk = from + shape::x_bytes + (warp_group * 2 + i) * F::chunk_bytes;
            const std::uint8_t* mine;
            int to_hi;
            if constexpr (F::from == wide::source::units) {
              to_hi = F::chunk_bytes / 8;
              mine = chunk + warp * 2 * to_hi + lane * 16;
            } else {
              to_hi = 8 * F::row_bytes;
              mine = chunk + warp * 2 * to_hi + (lane >> 2) * F::row_bytes + (lane & 3) * 16;
            }
#pragma unroll
            for (int q = 0; q < F::quads; ++q) {
              lo[i][q] = *reinterpret_cast<const uint4*>(mine + q * F::quad_bytes);
              hi[i][q] = *reinterpret_cast<const uint4*>(mine + to_hi + q * F::quad_bytes);
            }
            const std::uint8_t* const scales = from + shape::x_bytes + shape::chunks * F::chunk_bytes +
                                               (warp_group * 2 + i) * shape::scale_chunk_bytes +
                                               (warp * 16 + (lane >> 2)) * F::scale_bytes;
            if constexpr (F::scale_bytes == 8) {
              const uint2 l = *reinterpret_cast<const uint2*>(scales), h = *reinterpret_cast<const uint2*>(scales + 64);
              d_lo[i] = {l.x, l.y, 0, 0};
              d_hi[i] = {h.x, h.y, 0, 0};
            } else if constexpr (F::scale_bytes == 16) {
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
            wgmma_fence();
#pragma unroll
            for (int step = 0; step < 2; ++step) {
              const std::uint64_t x_at = operand_at(x + (b >> 1) * (N * 128) + (b & 1) * 64 + step * 32);
              wgmma<N>(d[0], operand[b & 1][0][step], x_at);
              wgmma<N>(d[1], operand[b & 1][1][step], x_at);
            }
            wgmma_commit();
            wgmma_wait<1>();
            if (b == 0 && previous >= 0 && lane == 0) barrier_arrive(empty + previous);
          }
        }
        previous = stage;
        if (++stage == shape::stages) stage = 0, phase ^= 1;
      }
      wgmma_wait<0>();
      if (lane == 0) barrier_arrive(empty + previous);
      previous = -1;
      if (at.end - at.group < at.groups && !add_shares<N, Groups>(d, a, at, warp_group, word)) continue;
      const int w_tile = at.tile / a.token_tiles, token = at.tile % a.token_tiles * N;
      const int first64 = a.half64 ? w_tile * Groups + warp_group : w_tile * shape::chunks + warp_group * 2;
      if (a.row_scale) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int row = min(first64 + i * (a.half64 ? a.half64 : 1), a.n64 - 1) * 64 + warp * 16 + (lane >> 2);
          const float low = a.row_scale[row], high = a.row_scale[row + 8];
#pragma unroll
          for (int j = 0; j < N / 2; ++j) d[i][j] *= (j & 2) ? high : low;
        }
      }
      float* const mine = staging + warp_group * 32 * shape::out_pitch;
      if (a.half64) {
#pragma unroll
        for (int i = 0; i < N / 2; ++i) d[0][i] = silu_times(d[0][i], d[1][i]);
        store_tile<N>(d[0], mine, shape::out_pitch, a, first64 * 64, a.half64 * 64, token, 1 + warp_group);
      } else {
#pragma unroll
        for (int i = 0; i < 2; ++i)
          store_tile<N>(d[i], mine, shape::out_pitch, a, (first64 + i) * 64, a.n, token, 1 + warp_group);
      }
    }
  }
#endif
}

}  // namespace troupe::kernels::cuda
