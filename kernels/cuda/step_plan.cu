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
  int slots[most_sequences];
  int loads[most_decode_blocks];         // tiles of each block, where pairs stay whole
  int2 first_tiles[most_decode_blocks];  // of each stretch: where its blocks' numbers begin, and how many to take
  int warp_sums[32];
  int longest;
};

/// All tiles of the step's decodes, laid end to end: pairs of a sequence, the longest first, and a group of query
/// heads.
struct tile_line {
  const list_room& room;
  int sequences, groups;

  struct place {
    int pair, tile, tiles;  ///< tiles: of the pair
  };
  __device__ int all() const { return room.starts[sequences] * groups; }
  __device__ int pairs() const { return sequences * groups; }
  __device__ pair_number by_sequence(int pair) const {
    return {static_cast<std::int16_t>(pair / groups), static_cast<std::int16_t>(pair % groups)};
  }
  __device__ int tiles_of(int pair) const { return room.starts[pair / groups + 1] - room.starts[pair / groups]; }
  __device__ place at(int position) const {
    const int s = owner_of(room.starts, sequences, position / groups);
    const int tiles = room.starts[s + 1] - room.starts[s], within = position - room.starts[s] * groups;
    return {s * groups + within / tiles, within % tiles, tiles};
  }
};

/// Pairs dealt to the blocks to and fro: from a block's pair to its next, and from there.
__device__ int2 steps_of(int block, int blocks) { return {2 * (blocks - block) - 1, 2 * block + 1}; }

/// Whether pairs stay whole: one that is cut costs a kernel's end three trips through memory. They do where no
/// multiprocessor, of its two blocks together, has more than a few tiles above the mean. Where there is but one block
/// for each, it asks for somewhat less than it could read.
__device__ bool keep_whole(list_room& room, const tile_line& line, int blocks) {
  constexpr int above = 20;
  const int pairs = line.pairs(), s = threadIdx.x, together = blocks / 2, mean = line.all() / together;
  if (s < blocks) {
    int load = 0;
    int2 steps = steps_of(s, blocks);
    for (int pair = s; pair < pairs; pair += steps.x, steps = {steps.y, steps.x}) load += line.tiles_of(pair);
    room.loads[s] = load;
  }
  if (s == 0) room.longest = 0;
  __syncthreads();
  const int most = __reduce_max_sync(~0u, s < together ? room.loads[s] + room.loads[s + together] : 0);
  if (s % 32 == 0) atomicMax(&room.longest, most);
  __syncthreads();
  return room.longest <= mean + above - (pairs > together ? 0 : mean / 8);
}

/// The stretch of block `threadIdx.x`: whole pairs; or its part of the line, cut in equal ones, at pairs' borders where
/// those are near; or of one pair, where clusters do one each.
__device__ decode_stretch stretch_of_block(list_room& room, const tile_line& line, int blocks, bool in_clusters) {
  constexpr int least = 16;  // tiles: what is worth a part of a pair
  const int s = threadIdx.x, pairs = line.pairs();
  decode_stretch stretch{};
  stretch.step = stretch.other_step = line.by_sequence(1);
  if (in_clusters) {
    const int pair = s / decode_cluster_blocks;
    if (pair >= pairs) return {};
    const int rank = s % decode_cluster_blocks, tiles = line.tiles_of(pair);
    stretch.pair = line.by_sequence(pair);
    stretch.tile = rank * tiles / decode_cluster_blocks;
    stretch.tiles = (rank + 1) * tiles / decode_cluster_blocks - stretch.tile;
    return stretch;
  }
  if (keep_whole(room, line, blocks)) {
    if (s >= min(blocks, pairs)) return {};
    const int2 steps = steps_of(s, blocks);
    stretch.pair = line.by_sequence(s), stretch.tiles = room.loads[s];
    stretch.step = line.by_sequence(steps.x), stretch.other_step = line.by_sequence(steps.y);
    return stretch;
  }
  const int parts = max(1, min(blocks, line.all() / least) / pairs), cut = pairs < blocks ? parts * pairs : blocks;
  if (s >= cut) return {};
  const std::int64_t all = line.all();
  const int near = min(2, line.all() / cut / 3);
  const auto border = [&](int block) {
    const auto position = static_cast<int>(block * all / cut);
    if (block == cut) return position;
    const tile_line::place p = line.at(position);
    return p.tile <= near ? position - p.tile : p.tiles - p.tile <= near ? position + p.tiles - p.tile : position;
  };
  const auto owner = [&](int position) {  // a border may have moved beyond it, or before it
    const auto at = static_cast<int>(((position + std::int64_t{1}) * cut - 1) / all);
    return border(at) > position ? at - 1 : at + 1 < cut && border(at + 1) <= position ? at + 1 : at;
  };
  const int from = border(s), to = border(s + 1);
  const tile_line::place first = line.at(from), last = line.at(to - 1);
  stretch.pair = line.by_sequence(first.pair), stretch.tile = first.tile, stretch.tiles = to - from;
  if (first.tile > 0) {
    stretch.head_first = owner(from - first.tile);
    stretch.head_blocks = owner(from - first.tile + first.tiles - 1) - stretch.head_first + 1;
  }
  const int begun = to - 1 - last.tile;
  if (begun >= from && last.tile + 1 < last.tiles) stretch.tail_blocks = owner(begun + last.tiles - 1) - s + 1;
  return stretch;
}

__device__ void list_stretches(const step_tables& tables, const step_plan& plan, int sequences, int groups, int blocks,
                               bool in_clusters, list_room& room) {
  const tile_line line{room, sequences, groups};
  const int s = threadIdx.x;
  decode_stretch stretch{};
  if (sequences > 0) stretch = stretch_of_block(room, line, blocks, in_clusters);
  if (s < blocks) {
    if (sequences > 0) stretch.of = plan.decode->by_length[stretch.pair.sequence];
    const int left = (stretch.of.length + kv_layout::block_tokens - 1) / kv_layout::block_tokens - stretch.tile;
    room.first_tiles[s] = {stretch.of.table + stretch.tile, min(16, min(stretch.tiles, left))};
    const auto* from = reinterpret_cast<const int4*>(&stretch);
    auto* to = reinterpret_cast<int4*>(&plan.decode->stretches[s]);
    for (int i = 0; i < 4; ++i) to[i] = from[i];
  }
  __syncthreads();
  for (int i = s; i < blocks * 16; i += list_threads) {
    const int2 tiles = room.first_tiles[i / 16];
    if (i % 16 < tiles.y) plan.decode->stretches[i / 16].blocks[i % 16] = tables.block_tables[tiles.x + i % 16];
  }
}

__device__ void list_decode(const step_tables& tables, const shared_tables& shared, const step_plan& plan,
                            int sequences, int groups, bool in_clusters, int blocks, int least_prefilled,
                            list_room& room) {
  const int s = threadIdx.x;
  const bool decoded = s < sequences && tables.row_count[s] < least_prefilled;
  const own_part own = decoded && shared.own ? shared.own[s] : own_part{};
  const int length = decoded ? tables.past[s] + 1 - own.from : 0,
            tiles = (length + kv_layout::block_tokens - 1) / kv_layout::block_tokens;
  int all = 0, ahead = 0, others = 0;
  const int place = exclusive_sum(decoded, room.warp_sums, all);
  const int slot = shared.own ? exclusive_sum(own.results, room.warp_sums, others) : 0;
  const decode_sequence sequence{tables.first_row[s < sequences ? s : 0],
                                 length,
                                 s * tables.table_stride + own.from / kv_layout::block_tokens,
                                 slot,
                                 own.results,
                                 {}};
  if (decoded) {
    plan.decode->sequences[place] = sequence;
    plan.decode->shared_slots[s] = slot;
    room.slots[place] = tiles;
  }
  if (s == 0) plan.counts[0] = all;
  __syncthreads();
  if (decoded) {
    int longer = 0;
#pragma unroll 8
    for (int i = 0; i < all; ++i) longer += room.slots[i] > tiles || (room.slots[i] == tiles && i < place);
    plan.decode->by_length[longer] = sequence;
    room.starts[longer] = tiles;
  }
  __syncthreads();
  const int own_tiles = s < all ? room.starts[s] : 0;
  const int start = exclusive_sum(own_tiles, room.warp_sums, ahead);
  if (s < all) room.starts[s] = start;
  if (s == 0) room.starts[all] = ahead;
  __syncthreads();
  list_stretches(tables, plan, all, groups, blocks, in_clusters, room);
}

/// Tiles ordered by how many keys they see, the most first: those of equal length in any order.
__device__ void list_tiles(const step_tables& tables, const step_plan& plan, int sequences, int tile_rows,
                           int least_prefilled, list_room& room) {
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
  const auto bin_of = [&](const prefill_tile& t) {
    return list_threads - 1 - min((t.past + t.first + t.rows) / tile_rows, list_threads - 1);
  };
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
__device__ void write_angles(const step_tables& tables, const double* frequencies, int pairs, float2* angles,
                             int rows) {
  const int index = (blockIdx.x - 1) * blockDim.x + threadIdx.x;
  if (index >= rows * pairs) return;
  const double angle = tables.row_position[index / pairs] * frequencies[index % pairs];
  constexpr double turn = 6.283185307179586;
  const auto within_a_turn = static_cast<float>(angle - turn * rint(angle / turn));
  float sine = 0, cosine = 0;
  sincosf(within_a_turn, &sine, &cosine);
  angles[index] = {cosine, sine};
}

__global__ void __launch_bounds__(list_threads, 1)
    plan_step(step_tables tables, const double* frequencies, int pairs, int tile_rows, int groups, bool in_clusters,
              int blocks, int least_prefilled, shared_tables shared, step_plan plan) {
  __shared__ list_room room;
  // The tables are there, and nobody reads the plan of the step before: the kernel that reads the record lets no other
  // start before it ends. So this one works beside the embedding. It lets no successor start early: those read the plan
  // before they wait.
  if (blockIdx.x > 0) {
    write_angles(tables, frequencies, pairs, plan.angles, tables.counts[0]);
  } else {
    list_decode(tables, shared, plan, tables.counts[1], groups, in_clusters, blocks, least_prefilled, room);
    __syncthreads();
    list_tiles(tables, plan, tables.counts[1], tile_rows, least_prefilled, room);
  }
  wait_for_predecessor();
}

}  // namespace

std::int32_t decode_groups(std::int32_t heads, std::int32_t kv_heads) { return (heads / kv_heads + 7) / 8 * kv_heads; }

std::int32_t decode_blocks(std::int32_t processors) {
  int device = 0;
  static_cast<void>(cudaGetDevice(&device));
  if (processors == 0) static_cast<void>(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device));
  return std::min(2 * processors, most_decode_blocks);
}

std::int64_t most_tiles(std::int64_t sequences, std::int64_t rows, std::int64_t tile_rows) {
  return rows / tile_rows + sequences;
}

void make_step_plan(const step_planning& what, cudaStream_t on) {
  const int angles = what.tables->rows * what.pairs;
  const int blocks = 1 + (angles + list_threads - 1) / list_threads;
  launch(plan_step, dim3(blocks), dim3(list_threads), 0, on, *what.tables, what.frequencies, what.pairs, what.tile_rows,
         what.groups, what.in_clusters, decode_blocks(what.tables->processors), what.least_prefilled, what.shared,
         what.plan);
}

}  // namespace troupe::kernels::cuda
