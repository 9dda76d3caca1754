// The planning kernel: block 0 makes the lists of attention work, the others the angles. Knows no tensor.
#include "kernels/cuda/step_plan.hpp"

#include <algorithm>

namespace troupe::kernels::cuda {
namespace {

constexpr int most_sequences = most_decode_sequences;
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
  int starts[most_sequences + 1];
  int slots[most_sequences + 1];
  int warp_sums[32];
};

/// The first split that begins at token `at` of a sequence or behind it.
__device__ int split_of(int at, int length, bool narrow) { return (at + split_tokens(length, narrow) - 1) >> split_shift(length, narrow); }

/// The work that covers token `position` of all groups of all sequences laid end to end, or the next one where it has
/// begun before; `index` is its number.
__device__ decode_start work_at(const list_room& room, int sequences, int groups, bool narrow, std::int64_t position, int& index) {
  const int s = owner_of(room.starts, sequences, static_cast<int>(position / groups));
  const int length = room.starts[s + 1] - room.starts[s], splits = room.slots[s + 1] - room.slots[s];
  const auto within = static_cast<int>(position - std::int64_t{room.starts[s]} * groups);
  decode_start at{s, within / length, split_of(within % length, length, narrow), 0};
  index = room.slots[s] * groups + at.group * splits + at.split;
  if (at.split == splits) {
    at.split = 0;
    if (++at.group == groups) {
      at.group = 0;
      ++at.sequence;
    }
  }
  return at;
}

__device__ void list_decode(const step_tables& tables, const shared_tables& shared, const step_plan& plan, int sequences, int groups, bool narrow, int blocks, int least_prefilled, list_room& room) {
  const int s = threadIdx.x;
  const bool decoded = s < sequences && tables.row_count[s] < least_prefilled;
  const own_part own = decoded && shared.own ? shared.own[s] : own_part{};
  const int length = decoded ? tables.past[s] + 1 - own.from : 0;
  int all = 0, slots = 0, tokens = 0, others = 0;
  const int place = exclusive_sum(decoded, room.warp_sums, all);
  const int first_slot = exclusive_sum(decoded ? split_count(length, narrow) : 0, room.warp_sums, slots);
  const int first_token = exclusive_sum(length, room.warp_sums, tokens);
  const int with_others = first_slot + (shared.own ? exclusive_sum(own.results, room.warp_sums, others) : 0);
  if (decoded) {
    plan.decode->sequences[place] = {tables.first_row[s], length, s * tables.table_stride + own.from / kv_layout::block_tokens, with_others, own.results};
    plan.decode->shared_slots[s] = with_others + split_count(length, narrow);
    room.starts[place] = first_token;
    room.slots[place] = first_slot;
  }
  if (s == 0) {
    plan.counts[0] = all;
    room.starts[all] = tokens;
    room.slots[all] = slots;
  }
  __syncthreads();
  if (s >= blocks) return;
  decode_start start{};
  if (all > 0) {
    const std::int64_t end = std::int64_t{tokens} * groups;
    int index = 0, next = slots * groups;
    start = work_at(room, all, groups, narrow, s * end / blocks, index);
    if (s + 1 < blocks) work_at(room, all, groups, narrow, (s + 1) * end / blocks, next);
    start.works = next - index;
  }
  plan.decode->starts[s] = start;
}

/// Tiles ordered by how many keys they see, the most first: those of equal length in any order.
__device__ void list_tiles(const step_tables& tables, const step_plan& plan, int sequences, int tile_rows, int least_prefilled, list_room& room) {
  const int s = threadIdx.x;
  const int rows = s < sequences && tables.row_count[s] >= least_prefilled ? tables.row_count[s] : 0;
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

__global__ void __launch_bounds__(list_threads, 1) plan_step(step_tables tables, const double* frequencies, int pairs, int tile_rows, int groups, bool narrow, int blocks, int least_prefilled, shared_tables shared, step_plan plan) {
  __shared__ list_room room;
  // The tables are there, and nobody reads the plan of the step before: the kernel that reads the record lets no other start
  // before it ends. So this one works beside the embedding. It lets no successor start early: those read the plan before they wait.
  if (blockIdx.x > 0) {
    write_angles(tables, frequencies, pairs, plan.angles, tables.counts[0]);
  } else {
    list_decode(tables, shared, plan, tables.counts[1], groups, narrow, blocks, least_prefilled, room);
    __syncthreads();
    list_tiles(tables, plan, tables.counts[1], tile_rows, least_prefilled, room);
  }
  wait_for_predecessor();
}

}  // namespace

std::int32_t decode_groups(std::int32_t heads, std::int32_t kv_heads) { return (heads / kv_heads + 7) / 8 * kv_heads; }

std::int32_t decode_blocks() {
  int device = 0, processors = 0;
  static_cast<void>(cudaGetDevice(&device));
  static_cast<void>(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device));
  return std::min(2 * processors, most_decode_blocks);
}

std::int64_t most_splits(std::int64_t sequences, std::int64_t kv_tokens) { return kv_tokens / split_tokens(1) + sequences; }

std::int64_t most_tiles(std::int64_t sequences, std::int64_t rows, std::int64_t tile_rows) { return rows / tile_rows + sequences; }

void make_step_plan(const step_planning& what, cudaStream_t on) {
  const int angles = what.tables->rows * what.pairs;
  const int blocks = 1 + (angles + list_threads - 1) / list_threads;
  launch(plan_step, dim3(blocks), dim3(list_threads), 0, on, *what.tables, what.frequencies, what.pairs, what.tile_rows, what.groups, what.narrow_splits, decode_blocks(), what.least_prefilled, what.shared, what.plan);
}

}  // namespace troupe::kernels::cuda
