// One thread rotates 16 numbers: two 16-byte chunks that hold both halves of their pairs, and stores them as the arena
// keeps them. Knows no attention.
#include "kernels/cuda/rope_store.hpp"

#include "kernels/cuda/narrow_kv.cuh"

namespace troupe::kernels::cuda {
namespace {

constexpr int threads = 128;
constexpr int each =
    2;  ///< heads that a thread has asked for before it stores one: of where it stores, the compiler knows nothing

/// All lanes of a head call this.
template <kv_format F>
__device__ void store_head(const chunk& a, const chunk& b, bool value, int token, int2 at, int head_dim,
                           std::byte* tile) {
  const int units = head_dim / 16, lane = threadIdx.x & 31;
  const unsigned mask = (units == 8 ? 0xffu : 0xfu) << (lane & ~(units - 1));
  float most = largest(b, largest(a, 0.0f));
  for (int step = 1; step < units; step *= 2) most = larger(most, __shfl_xor_sync(mask, most, step));
  const bf16 scale = scale_for<F>(most);
  store_narrow<F>(a, scale, value, token, at.x, tile);
  store_narrow<F>(b, scale, value, token, at.y, tile);
  if (lane % units == 0) *reinterpret_cast<bf16*>(tile + kv_layout::scale_offset(head_dim, token)) = scale;
}

/// A block a row; a thread does the same dims of every 16th head or so, with one set of angles.
template <kv_format F>
__global__ void __launch_bounds__(threads, F == kv_format::bf16 ? 8 : 4)
    rope_store_rows(step_tables tables, rope_store_call call) {
  let_successor_start();
  const int row = blockIdx.x;
  const int units_a_head = call.kv.head_dim / 16;
  const int first_head = threadIdx.x / units_a_head, step = threads / units_a_head;
  const int unit = threadIdx.x % units_a_head;
  if (row >= tables.counts[0]) return wait_for_predecessor();
  const int heads = call.heads + 2 * call.kv.kv_heads;
  const int2 at = chunks_of(unit, call.rope);
  const int sequence = tables.row_sequence[row];
  const int position = tables.row_position[row];
  const int block =
      tables.block_tables[std::int64_t{sequence} * tables.table_stride + position / kv_layout::block_tokens];
  const row_angles angles(call.rope, row, unit);
  wait_for_predecessor();

  const auto chunks_of_head = [&](int head) {
    return reinterpret_cast<chunk*>(call.qkv + (std::int64_t{row} * heads + head) * call.kv.head_dim);
  };
  const int token = position % kv_layout::block_tokens;
  for (int first = first_head; first < heads; first += each * step) {
    chunk asked[each][2];
#pragma unroll
    for (int k = 0; k < each; ++k)
      if (const int head = first + k * step; head < heads)
        asked[k][0] = chunks_of_head(head)[at.x], asked[k][1] = chunks_of_head(head)[at.y];
#pragma unroll
    for (int k = 0; k < each; ++k) {
      const int head = first + k * step;
      if (head >= heads) break;
      chunk &a = asked[k][0], &b = asked[k][1];
      if (head < call.heads + call.kv.kv_heads) {
        angles.rotate(a, b);
        if (F != kv_format::bf16) turn_head(a, b, units_a_head);
      }
      if (head < call.heads) {
        chunk* chunks = chunks_of_head(head);
        chunks[at.x] = a;
        chunks[at.y] = b;
        continue;
      }
      const bool value = head >= call.heads + call.kv.kv_heads;
      const int kv_head = head - call.heads - (value ? call.kv.kv_heads : 0);
      std::byte* tile = call.kv.tile(block, call.layer, kv_head) + (value ? call.kv.value_offset() : 0);
      if constexpr (F != kv_format::bf16) {
        store_head<F>(a, b, value, token, at, call.kv.head_dim, tile);
        continue;
      }
      *reinterpret_cast<chunk*>(tile + kv_layout::chunk_offset(token, at.x)) = a;
      *reinterpret_cast<chunk*>(tile + kv_layout::chunk_offset(token, at.y)) = b;
    }
  }
}

}  // namespace

void rope_store(const rope_store_call& call, cudaStream_t on) {
  const auto kernel = call.kv.format == kv_format::bf16  ? rope_store_rows<kv_format::bf16>
                      : call.kv.format == kv_format::fp8 ? rope_store_rows<kv_format::fp8>
                                                         : rope_store_rows<kv_format::q8_0>;
  launch(kernel, dim3(static_cast<unsigned>(call.tables->rows)), dim3(threads), 0, on, *call.tables, call);
}

}  // namespace troupe::kernels::cuda
