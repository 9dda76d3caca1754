// The planning kernel: block 0 makes the lists of attention work, the others the angles. Knows no tensor.
#include "kernels/cuda/step_plan.hpp"

namespace troupe::kernels::cuda {
namespace {

constexpr int most_sequences = 1024;
constexpr int list_threads = 1024;

/// Sums of what the threads before this one hold; `total` in all of them. 1,024 threads.
__device__ int exclusive_sum(int value, int* warp_sums, int& total) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  int inclusive = value;
  for (int step = 1; step < 32; step *= 2) {
    const int left = __shfl_up_sync(~0u, inclusive, step);
    if (lane >= step) inclusive += left;
  }
  __syncthreads();  // the sums of the call before have been read
  if (lane == 31) warp_sums[warp] = inclusive;
  __syncthreads();
  int before = 0;
  total = 0;
  for (int w = 0; w < list_threads / 32; ++w) {
    if (w < warp) before += warp_sums[w];
    total += warp_sums[w];
  }
  return before + inclusive - value;
}

/// The last s with starts[s] <= index: whose share of a list `index` is.
__device__ int owner_of(const int* starts, int sequences, int index) {
  int low = 0, high = sequences;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (starts[middle] <= index) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

struct list_room {
  int starts[most_sequences];
  int slots[most_sequences];
  int warp_sums[32];
};

__device__ decode_split split_of(const step_tables& tables, int sequence, int split, int first_slot) {
  const int length = tables.past[sequence] + 1, whole = split_tokens(length), first = split * whole;
  return {sequence * tables.table_stride + first / kv_layout::block_tokens, min(whole, length - first), length - first, tables.first_row[sequence],
          sequence, first_slot + split, first_slot, split_count(length)};
}

__device__ void list_splits(const step_tables& tables, const step_plan& plan, int sequences, list_room& room) {
  const int s = threadIdx.x;
  const bool decoded = s < sequences && tables.row_count[s] == 1;
  const int length = decoded ? tables.past[s] + 1 : 0;
  const int tokens = split_tokens(length);
  int all = 0, whole = 0, short_ones = 0;
  const int slot = exclusive_sum((length + tokens - 1) / tokens, room.warp_sums, all);
  const int first_whole = exclusive_sum(length / tokens, room.warp_sums, whole);
  const int first_short = exclusive_sum(length % tokens != 0, room.warp_sums, short_ones);
  room.slots[s] = slot;
  room.starts[s] = first_whole;
  __syncthreads();
  if (length % tokens != 0) plan.splits[whole + first_short] = split_of(tables, s, length / tokens, slot);
  for (int i = threadIdx.x; i < whole; i += list_threads) {
    const int owner = owner_of(room.starts, sequences, i);
    plan.splits[i] = split_of(tables, owner, i - room.starts[owner], room.slots[owner]);
  }
  if (threadIdx.x == 0) plan.counts[0] = all;
}

/// Tiles ordered by how many keys they see, the most first: those of equal length in any order.
__device__ void list_tiles(const step_tables& tables, const step_plan& plan, int sequences, int tile_rows, list_room& room) {
  const int s = threadIdx.x;
  const int rows = s < sequences && tables.row_count[s] > 1 ? tables.row_count[s] : 0;
  int all = 0;
  const int first = exclusive_sum((rows + tile_rows - 1) / tile_rows, room.warp_sums, all);
  if (s == 0) plan.counts[1] = all;
  if (all == 0) return;
  room.starts[s] = first;
  room.slots[s] = 0;
  __syncthreads();
  const auto tile_at = [&](int i) {
    const int owner = owner_of(room.starts, sequences, i);
    const int row = (i - room.starts[owner]) * tile_rows;
    return prefill_tile{owner, row, min(tile_rows, tables.row_count[owner] - row), tables.past[owner]};
  };
  const auto bin_of = [&](const prefill_tile& t) { return list_threads - 1 - min((t.past + t.first + t.rows) / tile_rows, list_threads - 1); };
  for (int i = s; i < all; i += list_threads) atomicAdd(&room.slots[bin_of(tile_at(i))], 1);
  __syncthreads();
  const int longer = exclusive_sum(room.slots[s], room.warp_sums, all);
  room.slots[s] = longer;
  __syncthreads();
  for (int i = s; i < all; i += list_threads) {
    const prefill_tile t = tile_at(i);
    plan.tiles[atomicAdd(&room.slots[bin_of(t)], 1)] = t;
  }
}

/// Angles in double, as on the CPU: at position 100,000 a float angle would be off by 0.004.
__device__ void write_angles(const step_tables& tables, const double* frequencies, int pairs, float2* angles, int rows) {
  const int index = (blockIdx.x - 1) * blockDim.x + threadIdx.x;
  if (index >= rows * pairs) return;
  const double angle = tables.row_position[index / pairs] * frequencies[index % pairs];
  constexpr double turn = 6.283185307179586;
  const auto within_a_turn = static_cast<float>(angle - turn * rint(angle / turn));
  float sine = 0, cosine = 0;
  sincosf(within_a_turn, &sine, &cosine);
  angles[index] = {cosine, sine};
}

__global__ void __launch_bounds__(list_threads) plan_step(step_tables tables, const double* frequencies, int pairs, int tile_rows, step_plan plan) {
  __shared__ list_room room;
  wait_for_predecessor();  // and no early start for the successor: later kernels read the plan before they wait
  if (blockIdx.x > 0) {
    write_angles(tables, frequencies, pairs, plan.angles, tables.counts[0]);
    return;
  }
  list_splits(tables, plan, tables.counts[1], room);
  __syncthreads();
  list_tiles(tables, plan, tables.counts[1], tile_rows, room);
}

}  // namespace

std::int64_t most_splits(std::int64_t sequences, std::int64_t kv_tokens) { return kv_tokens / split_tokens(1) + sequences; }

std::int64_t most_tiles(std::int64_t sequences, std::int64_t rows, std::int64_t tile_rows) { return rows / tile_rows + sequences; }

void make_step_plan(const step_planning& what, cudaStream_t on) {
  const int angles = what.tables->rows * what.pairs;
  const int blocks = 1 + (angles + list_threads - 1) / list_threads;
  launch(plan_step, dim3(blocks), dim3(list_threads), 0, on, *what.tables, what.frequencies, what.pairs, what.tile_rows, what.plan);
}

}  // namespace troupe::kernels::cuda
