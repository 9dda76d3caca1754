// One thread rotates 16 numbers: two 16-byte chunks that hold both halves of their pairs. Knows no attention.
#include "kernels/cuda/rope_store.hpp"

#include "kernels/cuda/rotate.hpp"

namespace troupe::kernels::cuda {
namespace {

constexpr int threads = 128;

__global__ void __launch_bounds__(threads) rope_store_rows(step_tables tables, rope_store_call call) {
  let_successor_start();
  const int units_a_head = call.kv.head_dim / 16;
  const int heads = call.heads + 2 * call.kv.kv_heads;
  const int index = blockIdx.x * threads + threadIdx.x;
  const int row = index / (units_a_head * heads);
  if (row >= tables.counts[0]) return wait_for_predecessor();
  const int head = index / units_a_head % heads;
  const int unit = index % units_a_head;
  const int2 at = chunks_of(unit, call.rope);
  const int sequence = tables.row_sequence[row];
  const int position = tables.row_position[row];
  const int block = tables.block_tables[std::int64_t{sequence} * tables.table_stride + position / kv_layout::block_tokens];
  const float2* angles = call.rope.angles + std::int64_t{row} * (call.rope.dims / 2);
  wait_for_predecessor();

  auto* chunks = reinterpret_cast<chunk*>(call.qkv + (std::int64_t{row} * heads + head) * call.kv.head_dim);
  chunk a = chunks[at.x], b = chunks[at.y];
  if (head < call.heads + call.kv.kv_heads && unit < call.rope.dims / 16) rotate_chunks(a, b, at, call.rope, angles);
  if (head < call.heads) {
    chunks[at.x] = a;
    chunks[at.y] = b;
    return;
  }
  const bool value = head >= call.heads + call.kv.kv_heads;
  const int kv_head = head - call.heads - (value ? call.kv.kv_heads : 0);
  std::byte* tile = call.kv.tile(block, call.layer, kv_head) + (value ? call.kv.value_offset() : 0);
  const int token = position % kv_layout::block_tokens;
  *reinterpret_cast<chunk*>(tile + kv_layout::chunk_offset(token, at.x)) = a;
  *reinterpret_cast<chunk*>(tile + kv_layout::chunk_offset(token, at.y)) = b;
}

}  // namespace

void rope_store(const rope_store_call& call, cudaStream_t on) {
  const std::int64_t units = std::int64_t{call.tables->rows} * (call.heads + 2 * call.kv.kv_heads) * (call.kv.head_dim / 16);
  launch(rope_store_rows, dim3(static_cast<unsigned>((units + threads - 1) / threads)), dim3(threads), 0, on, *call.tables, call);
}

}  // namespace troupe::kernels::cuda
