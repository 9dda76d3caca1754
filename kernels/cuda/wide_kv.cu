// A warp a tile, by way of shared memory, so that both sides move 16 bytes a lane. Knows no attention.
#include "kernels/cuda/wide_kv.hpp"

#include "kernels/cuda/narrow_kv.cuh"

namespace troupe::kernels::cuda {
namespace {

constexpr int warps = 8;
constexpr int block_tokens = kv_layout::block_tokens;

__device__ inline std::uint32_t scaled(std::uint32_t halves, float first, float second) {
  const float2 two = __half22float2(reinterpret_cast<const __half2&>(halves));
  return pack_bf16(two.x * first, two.y * second);
}

/// One tile to `room`, in the order of bf16 tiles.
template <kv_format F>
__device__ void widen_tile(const std::byte* tile, bool value, int head_dim, std::byte* room) {
  const int lane = threadIdx.x & 31, row = lane / 4, column = lane % 4 * 2;
  const auto scale = [&](int token) {
    return __bfloat162float(*reinterpret_cast<const bf16*>(tile + kv_layout::scale_offset(head_dim, token)));
  };
  const auto store = [&](int token, int dim, std::uint32_t pair) {
    *reinterpret_cast<std::uint32_t*>(room + kv_layout::chunk_offset(token, dim / 8) + dim % 8 * 2) = pair;
  };
  for (int at = 0; at < head_dim / 32; ++at) {
    const uint4 two = reinterpret_cast<const uint4*>(tile)[at * 32 + lane];
    const std::uint32_t words[2][2] = {{two.x, two.y}, {two.z, two.w}};
    for (int s = 0; s < 2; ++s)
      for (int half = 0; half < 2; ++half) {
        const int first_dim = (2 * at + s) * 16;
        std::uint32_t low, high;
        widen<F>(words[s][half], low, high);
        if (!value) {
          const int token = row + half * 8;
          store(token, first_dim + column, scaled(low, scale(token), scale(token)));
          store(token, first_dim + 8 + column, scaled(high, scale(token), scale(token)));
        } else {  // rows are dims: turned around by eights
          const std::uint32_t a = transpose_matrix(scaled(low, scale(column), scale(column + 1)));
          const std::uint32_t b = transpose_matrix(scaled(high, scale(column + 8), scale(column + 9)));
          store(row, first_dim + half * 8 + column, a);
          store(row + 8, first_dim + half * 8 + column, b);
        }
      }
  }
}

template <kv_format F>
__global__ void __launch_bounds__(warps * 32) widen_blocks(step_tables tables, widen_call call) {
  __shared__ __align__(16) std::byte rooms[warps][block_tokens * 128 * 2];
  let_successor_start();
  wait_for_predecessor();
  const int lane = threadIdx.x & 31, all = static_cast<int>(gridDim.x) * warps;
  std::byte* const room = rooms[threadIdx.x / 32];
  const int kv_heads = call.from.kv_heads, tiles_a_block = 2 * kv_heads;
  int next = static_cast<int>(blockIdx.x) * warps + static_cast<int>(threadIdx.x) / 32;  // tile, counted over sequences
  for (int s = 0; s < tables.counts[1]; ++s) {
    if (tables.row_count[s] < call.least_rows) continue;
    const int tiles = (tables.past[s] + tables.row_count[s] + block_tokens - 1) / block_tokens * tiles_a_block;
    for (; next < tiles; next += all) {
      const int head = next % kv_heads, value = next / kv_heads % 2;
      const int block = tables.block_tables[std::int64_t{s} * tables.table_stride + next / tiles_a_block];
      const std::byte* from = call.from.tile(block, call.layer, head) + value * call.from.value_offset();
      auto* to = reinterpret_cast<uint4*>(call.to.tile(block, 0, head) + value * call.to.value_offset());
      widen_tile<F>(from, value, call.from.head_dim, room);
      __syncwarp();
      for (int at = lane; at < block_tokens * call.from.head_dim / 8; at += 32)
        to[at] = reinterpret_cast<const uint4*>(room)[at];
      __syncwarp();
    }
    next -= tiles;
  }
}

}  // namespace

void widen_kv(const widen_call& call, cudaStream_t on) {
  int device = 0, processors = 0;
  static_cast<void>(cudaGetDevice(&device));
  static_cast<void>(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device));
  const auto kernel = call.from.format == kv_format::fp8 ? widen_blocks<kv_format::fp8> : widen_blocks<kv_format::q8_0>;
  launch(kernel, dim3(static_cast<unsigned>(processors * 4)), dim3(warps * 32), 0, on, *call.tables, call);
}

}  // namespace troupe::kernels::cuda
