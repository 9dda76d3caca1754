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

/// A tile in the line of all tiles of the step's decodes, laid end to end: of which pair of sequence and group, and which of
/// that pair's `tiles`.
struct place {
  int sequence, group, tile, tiles;
};

struct list_room {
  int starts[most_sequences + 1];
  int slots[most_sequences];
  place places[most_decode_blocks];     // where each stretch begins
  int borders[most_decode_blocks + 1];  // the same in tiles of the line
  int2 first_tiles[most_decode_blocks];  // of each stretch: where its blocks' numbers begin, and how many to take
  int warp_sums[32];
  int longest;
};

struct tile_line {
  const list_room& room;
  int sequences, groups;

  __device__ int all() const { return room.starts[sequences] * groups; }
  __device__ int pairs() const { return sequences * groups; }
  __device__ int tiles_of(int sequence) const { return room.starts[sequence + 1] - room.starts[sequence]; }
  /// Where stretch `block` of `blocks` equal ones begins; at a pair's border if that is at most `near` tiles off.
  __device__ int border(int block, int blocks, int near, place& p) const {
    p = {};
    if (block >= blocks) return all();
    const auto position = static_cast<int>(std::int64_t{block} * all() / blocks);
    p.sequence = owner_of(room.starts, sequences, position / groups);
    p.tiles = tiles_of(p.sequence);
    const int within = position - room.starts[p.sequence] * groups;
    p.group = within / p.tiles;
    p.tile = within % p.tiles;
    const int before = p.tile, behind = p.tiles - p.tile;
    if (min(before, behind) > near) return position;
    p.tile = 0;
    if (before <= behind) return position - before;
    if (++p.group == groups) {
      p.group = 0;
      p.tiles = ++p.sequence < sequences ? tiles_of(p.sequence) : 0;
    }
    return position + behind;
  }
  /// Where block `rank` of the cluster that does a pair begins.
  __device__ int border_in_clusters(int block, place& p) const {
    const int pair = block / decode_cluster_blocks;
    p = {};
    if (pair >= pairs()) return all();
    p.sequence = pair / groups;
    p.group = pair % groups;
    p.tiles = tiles_of(p.sequence);
    p.tile = block % decode_cluster_blocks * p.tiles / decode_cluster_blocks;
    return room.starts[p.sequence] * groups + p.group * p.tiles + p.tile;
  }
};

/// Where stretch `threadIdx.x` begins. A pair that is cut costs a kernel's end three trips through memory: so pairs stay whole
/// where no multiprocessor, of its two blocks together, has more than a few tiles above the mean. Where there is but one block
/// for each, it asks for somewhat less than it could read. `least` tiles: what is worth a part of a pair.
__device__ int choose_border(list_room& room, const tile_line& line, int blocks, place& p) {
  constexpr int above = 20, least = 16, whole = 1 << 30;
  const int pairs = line.pairs(), s = threadIdx.x, together = blocks / 2, mean = line.all() / together;
  const int each = (pairs + blocks - 1) / blocks, even = (pairs + each - 1) / each;
  if (s == 0) room.longest = 0;
  const int from = line.border(s, even, whole, p);
  if (s <= blocks) room.borders[s] = from;
  __syncthreads();
  int most = 0;
  if (s < together) most = room.borders[s + 1] - from + room.borders[s + together + 1] - room.borders[s + together];
  most = __reduce_max_sync(~0u, most);
  if (s % 32 == 0) atomicMax(&room.longest, most);
  __syncthreads();
  if (room.longest <= mean + above - (even > together ? 0 : mean / 8)) return from;
  const int parts = max(1, min(blocks, line.all() / least) / pairs), cut = pairs < blocks ? parts * pairs : blocks;
  return line.border(s, cut, min(2, line.all() / cut / 3), p);
}

__device__ void list_stretches(const step_tables& tables, const step_plan& plan, int sequences, int groups, int blocks, bool in_clusters, list_room& room) {
  const tile_line line{room, sequences, groups};
  const int s = threadIdx.x;
  place p{};
  int from = 0;
  if (sequences > 0) from = in_clusters ? line.border_in_clusters(s, p) : choose_border(room, line, blocks, p);
  __syncthreads();
  if (s <= blocks) room.borders[s] = from;
  if (s < blocks) room.places[s] = p;
  __syncthreads();
  if (s < blocks) {
    const int to = room.borders[s + 1];
    const auto blocks_to_end = [&](int first, int start, int tiles) { return owner_of(room.borders, blocks, start + tiles - 1) - first + 1; };
    int head_first = 0, head_blocks = 0, tail_blocks = 0;
    if (from < to && p.tile > 0) {
      head_first = owner_of(room.borders, blocks, from - p.tile);
      head_blocks = blocks_to_end(head_first, from - p.tile, p.tiles);
    }
    const place next = s + 1 < blocks ? room.places[s + 1] : place{};
    if (next.tile > 0 && to - next.tile >= from) tail_blocks = blocks_to_end(s, to - next.tile, next.tiles);
    decode_stretch& stretch = plan.decode->stretches[s];
    decode_sequence of{};
    if (sequences > 0) of = plan.decode->sequences[p.sequence];
    room.first_tiles[s] = {of.table + p.tile, min(min(16, p.tiles - p.tile), to - from)};
    auto* const words = reinterpret_cast<int4*>(&stretch);
    words[0] = {p.sequence, p.group, p.tile, to - from};
    words[1] = {head_first, head_blocks, tail_blocks, 0};
    stretch.of = of;
  }
  __syncthreads();
  for (int i = s; i < blocks * 16; i += list_threads) {
    const int2 tiles = room.first_tiles[i / 16];
    if (i % 16 < tiles.y) plan.decode->stretches[i / 16].blocks[i % 16] = tables.block_tables[tiles.x + i % 16];
  }
}

__device__ void list_decode(const step_tables& tables, const shared_tables& shared, const step_plan& plan, int sequences, int groups, bool in_clusters, int blocks, int least_prefilled, list_room& room) {
  const int s = threadIdx.x;
  const bool decoded = s < sequences && tables.row_count[s] < least_prefilled;
  const own_part own = decoded && shared.own ? shared.own[s] : own_part{};
  const int length = decoded ? tables.past[s] + 1 - own.from : 0;
  int all = 0, tiles = 0, others = 0;
  const int place = exclusive_sum(decoded, room.warp_sums, all);
  const int first_tile = exclusive_sum((length + kv_layout::block_tokens - 1) / kv_layout::block_tokens, room.warp_sums, tiles);
  const int slot = shared.own ? exclusive_sum(own.results, room.warp_sums, others) : 0;
  if (decoded) {
    plan.decode->sequences[place] = {tables.first_row[s], length, s * tables.table_stride + own.from / kv_layout::block_tokens, slot, own.results, {}};
    plan.decode->shared_slots[s] = slot;
    room.starts[place] = first_tile;
  }
  if (s == 0) {
    plan.counts[0] = all;
    room.starts[all] = tiles;
  }
  __syncthreads();
  list_stretches(tables, plan, all, groups, blocks, in_clusters, room);
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

__global__ void __launch_bounds__(list_threads, 1) plan_step(step_tables tables, const double* frequencies, int pairs, int tile_rows, int groups, bool in_clusters, int blocks, int least_prefilled, shared_tables shared, step_plan plan) {
  __shared__ list_room room;
  // The tables are there, and nobody reads the plan of the step before: the kernel that reads the record lets no other start
  // before it ends. So this one works beside the embedding. It lets no successor start early: those read the plan before they wait.
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

std::int64_t most_tiles(std::int64_t sequences, std::int64_t rows, std::int64_t tile_rows) { return rows / tile_rows + sequences; }

void make_step_plan(const step_planning& what, cudaStream_t on) {
  const int angles = what.tables->rows * what.pairs;
  const int blocks = 1 + (angles + list_threads - 1) / list_threads;
  launch(plan_step, dim3(blocks), dim3(list_threads), 0, on, *what.tables, what.frequencies, what.pairs, what.tile_rows, what.groups, what.in_clusters, decode_blocks(what.tables->processors), what.least_prefilled, what.shared, what.plan);
}

}  // namespace troupe::kernels::cuda
