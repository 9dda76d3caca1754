// The product kernel for many rows and packed weights on Hopper: weights arrive packed in shared memory, become bf16 A
// operands in registers, and meet x (B, from shared memory) in wgmma. Nothing dequantised is ever stored.
//
// A block makes tiles of 256 weight rows x N tokens: one warp keeps the ring of stages (128 columns each) full, two warp
// groups multiply, 128 weight rows each. Each sum runs over the columns in order, whatever the batch.
#pragma once

#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/products.hpp"
#include "kernels/cuda/wide_formats.cuh"

namespace troupe::kernels::cuda {

struct wide_arguments {
  const std::uint8_t* data;
  const std::uint8_t* scales;
  int n, half64;  // weight rows; silu: tiles of 64 rows in a half, else 0
  int n64;        // tiles of 64 rows
  int groups;     // of 128 columns
  int rows;       // tokens
  int weight_tiles, token_tiles;
  void* out;
  long out_stride;
  product_output output;
};

template <class F, int N>
struct wide_shape {
  static constexpr int x_bytes = N * 256;
  static constexpr int chunk_bytes = 8 * F::unit_bytes;         // 64 weight rows x 128 columns
  static constexpr int scale_chunk_bytes = 64 * F::scale_bytes;
  static constexpr int stage_bytes = x_bytes + 4 * (chunk_bytes + scale_chunk_bytes);
  static constexpr int out_pitch = 68;  // floats
  static constexpr int out_bytes = 2 * 32 * out_pitch * 4;
  static constexpr int stages_fit = (226 * 1024 - 1024 - out_bytes) / stage_bytes;
  static constexpr int stages = stages_fit > 8 ? 8 : stages_fit;
  static constexpr int bytes = 1024 + stages * stage_bytes + out_bytes + stages * 16;
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
    for (int i = 0; i < 4; ++i) {
      const int row = i * 8 + (tid >> 4), token = first_token + part * 32 + row, n = first_n + (tid & 15) * 4;
      if (row >= N || token >= a.rows || n >= n_end) continue;
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

template <class F, int N>
__global__ void __launch_bounds__(384, 1)
wide_product_kernel(const __grid_constant__ wide_arguments a, const __grid_constant__ CUtensorMap x_map) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using namespace hopper;
  using shape = wide_shape<F, N>;
  extern __shared__ std::uint8_t raw[];
  std::uint8_t* const stages = raw + ((1024 - (shared_address(raw) & 1023)) & 1023);
  float* const staging = reinterpret_cast<float*>(stages + shape::stages * shape::stage_bytes);
  std::uint64_t* const full = reinterpret_cast<std::uint64_t*>(staging + shape::out_bytes / 4);
  std::uint64_t* const empty = full + shape::stages;
  const int warp_group = threadIdx.x >> 7;
  if (threadIdx.x == 0) {
    for (int i = 0; i < shape::stages; ++i) barrier_init(full + i, 1), barrier_init(empty + i, 8);
    barriers_ready();
  }
  __syncthreads();
  let_successor_start();
  const int tiles = a.weight_tiles * a.token_tiles;

  if (warp_group == 2) {
    fewer_registers<24>();
    if (threadIdx.x == 256) {
      wait_for_predecessor();
      int stage = 0;
      unsigned phase = 1;
      for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        const int w_tile = tile / a.token_tiles, token = tile % a.token_tiles * N;
        for (int group = 0; group < a.groups; ++group) {
          std::uint8_t* const to = stages + stage * shape::stage_bytes;
          barrier_wait(empty + stage, phase);
          barrier_expect(full + stage, shape::stage_bytes);
          copy_tile(to, &x_map, group * 128, token, full + stage);
          copy_tile(to + shape::x_bytes / 2, &x_map, group * 128 + 64, token, full + stage);
          for (int i = 0; i < 4; ++i) {
            const int r64 = a.half64 ? w_tile * 2 + (i >> 1) + (i & 1) * a.half64 : w_tile * 4 + i;
            const long chunk = static_cast<long>(r64 < a.n64 ? r64 : a.n64 - 1) * a.groups + group;
            copy_bulk(to + shape::x_bytes + i * shape::chunk_bytes, a.data + chunk * shape::chunk_bytes, shape::chunk_bytes, full + stage);
            copy_bulk(to + shape::x_bytes + 4 * shape::chunk_bytes + i * shape::scale_chunk_bytes,
                      a.scales + chunk * shape::scale_chunk_bytes, shape::scale_chunk_bytes, full + stage);
          }
          if (++stage == shape::stages) stage = 0, phase ^= 1;
        }
      }
    }
  } else {
    more_registers<240>();
    wait_for_predecessor();
    const int lane = threadIdx.x & 31, warp = (threadIdx.x & 127) >> 5;
    int stage = 0, previous = -1;
    unsigned phase = 0;
    for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
      float d[2][N / 2];
#pragma unroll
      for (int i = 0; i < N / 2; ++i) d[0][i] = d[1][i] = 0.0f;
      for (int group = 0; group < a.groups; ++group) {
        const std::uint8_t* const from = stages + stage * shape::stage_bytes;
        barrier_wait(full + stage, phase);
        constexpr int quads = F::unit_bytes / 512;
        uint4 lo[2][quads], hi[2][quads], d_lo[2], d_hi[2];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const std::uint8_t* units = from + shape::x_bytes + (warp_group * 2 + i) * shape::chunk_bytes + warp * 2 * F::unit_bytes + lane * 16;
          const std::uint8_t* scales = from + shape::x_bytes + 4 * shape::chunk_bytes +
                                       (warp_group * 2 + i) * shape::scale_chunk_bytes + (warp * 16 + (lane >> 2)) * F::scale_bytes;
#pragma unroll
          for (int q = 0; q < quads; ++q) {
            lo[i][q] = *reinterpret_cast<const uint4*>(units + q * 512);
            hi[i][q] = *reinterpret_cast<const uint4*>(units + F::unit_bytes + q * 512);
          }
          if constexpr (F::scale_bytes == 8) {
            const uint2 l = *reinterpret_cast<const uint2*>(scales), h = *reinterpret_cast<const uint2*>(scales + 64);
            d_lo[i] = {l.x, l.y, 0, 0};
            d_hi[i] = {h.x, h.y, 0, 0};
          } else {
            d_lo[i] = *reinterpret_cast<const uint4*>(scales);
            d_hi[i] = *reinterpret_cast<const uint4*>(scales + 128);
          }
        }
        const unsigned x = shared_address(from);
        unsigned operand[2][2][2][4];
#pragma unroll
        for (int b = 0; b < 4; ++b) {
#pragma unroll
          for (int i = 0; i < 2; ++i)
            F::operands(lo[i], hi[i], d_lo[i], d_hi[i], b, operand[b & 1][i][0], operand[b & 1][i][1]);
          wgmma_fence();
#pragma unroll
          for (int step = 0; step < 2; ++step) {
            const std::uint64_t at = operand_at(x + (b >> 1) * (shape::x_bytes / 2) + (b & 1) * 64 + step * 32);
            wgmma_registers<N>(d[0], operand[b & 1][0][step], at);
            wgmma_registers<N>(d[1], operand[b & 1][1][step], at);
          }
          wgmma_commit();
          wgmma_wait<1>();
          if (b == 0 && previous >= 0 && lane == 0) barrier_arrive(empty + previous);
        }
        previous = stage;
        if (++stage == shape::stages) stage = 0, phase ^= 1;
      }
      wgmma_wait<0>();
      if (lane == 0) barrier_arrive(empty + previous);
      previous = -1;
      const int w_tile = tile / a.token_tiles, token = tile % a.token_tiles * N;
      float* const mine = staging + warp_group * 32 * shape::out_pitch;
      if (a.half64) {
#pragma unroll
        for (int i = 0; i < N / 2; ++i) d[0][i] = silu_times(d[0][i], d[1][i]);
        store_tile<N>(d[0], mine, shape::out_pitch, a, (w_tile * 2 + warp_group) * 64, a.half64 * 64, token, 1 + warp_group);
      } else {
#pragma unroll
        for (int i = 0; i < 2; ++i)
          store_tile<N>(d[i], mine, shape::out_pitch, a, (w_tile * 4 + warp_group * 2 + i) * 64, a.n, token, 1 + warp_group);
      }
    }
  }
#endif
}

}  // namespace troupe::kernels::cuda
