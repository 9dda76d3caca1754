// Prefill attention on Hopper: a producer warp copies key tiles of 128 tokens as they lie in the arena; two warpgroups
// of 64 query rows multiply by wgmma, the next tile's scores beside the softmax of this one (Shah et al.,
// "FlashAttention-3", 2024), tile by tile from position 0. Few tiles over many keys are split, and their parts merged
// by a kernel of its own. Knows the arena's layout; no model.
#include <algorithm>

#include "kernels/cuda/attention_prefill.hpp"
#include "kernels/cuda/group_tiles.hpp"

namespace troupe::kernels::cuda {
namespace {

constexpr int groups = 2;
constexpr int group_rows = 64;
constexpr int threads = (1 + groups) * 128;
constexpr int tile_keys = 128;
constexpr int stages = 2;
constexpr int least_split_tiles = 8;  ///< key tiles of a part, if not fewer in all
constexpr int most_splits_a_tile = 16;
[[maybe_unused]] constexpr int block_tokens = kv_layout::block_tokens;
[[maybe_unused]] constexpr int panel_bytes = tile_keys * 128;  ///< 64 dims of a tile

template <int D>
struct group_room {
  std::byte q[groups][group_rows * D * 2];  // panels of 64 dims; later the results
  std::byte k[stages][tile_keys * D * 2];   // panels of 64 dims
  std::byte v[stages][tile_keys * D * 2];
  std::uint64_t k_here[stages], k_free[stages], v_here[stages], v_free[stages], last_here;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// 128 rows of a sequence under one query head, and a part of their key tiles.
struct prefill_work {
  prefill_tile tile;
  int head, kv_head, length, begin, tiles;  // key tiles [begin, tiles)
  float* partial;                           // null: the whole
};

/// The works of this block, those with the most keys first, back and forth over the blocks so that all get as much. The
/// one behind the next is asked for early.
class work_list {
public:
  __device__ work_list(const attention_call& call, int splits)
      : call_(call), splits_(splits), works_(call.plan.counts[1] * call.heads * splits) {
    ask();
  }
  __device__ bool next(prefill_work& work) {
    if (index_ >= works_) return false;
    work.tile = ahead_;
    const int split = index_ % splits_;
    work.head = index_ / splits_ % call_.heads;
    work.kv_head = work.head / (call_.heads / call_.kv.kv_heads);
    work.length = work.tile.past + work.tile.first + work.tile.rows;
    const int all = (work.length + tile_keys - 1) / tile_keys;
    work.begin = all * split / splits_;
    work.tiles = all * (split + 1) / splits_;
    work.partial = splits_ == 1
                       ? nullptr
                       : reinterpret_cast<float*>(call_.split_workspace) + index_ * split_floats(call_.kv.head_dim);
    ask();
    return true;
  }

private:
  __device__ void ask() {
    const int blocks = static_cast<int>(gridDim.x), block = static_cast<int>(blockIdx.x);
    index_ = round_ * blocks + (round_ % 2 ? blocks - 1 - block : block);
    ++round_;
    if (index_ < works_) ahead_ = call_.plan.tiles[index_ / splits_ / call_.heads];
  }

  const attention_call& call_;
  int splits_, works_, round_ = 0, index_ = 0;
  prefill_tile ahead_;
};

/// Copies the tiles' blocks, a lane a block and panel. Values behind the last token become zeros: 0 * NaN is NaN.
template <int D>
__device__ void produce(group_room<D>& room, const step_tables& tables, const attention_call& call, int splits) {
  const int lane = threadIdx.x & 31;
  constexpr int panels = D / 64, pieces = tile_keys / block_tokens * panels, piece_bytes = block_tokens * 128;
  const int piece_block = lane / panels, panel = lane % panels;
  const int to = panel * panel_bytes + piece_block * piece_bytes;
  work_list works(call, splits);
  prefill_work work;
  unsigned copied = 0, cleared = 0;
  while (works.next(work)) {
    const int* table = tables.block_tables + std::int64_t{work.tile.sequence} * tables.table_stride;
    const int blocks = (work.length + block_tokens - 1) / block_tokens;
    const auto block_at = [&](int t) {
      const int at = t * (tile_keys / block_tokens) + piece_block;
      return lane < pieces && at < blocks ? table[at] : -1;
    };
    int block = block_at(work.begin);
    for (int t = work.begin; t < work.tiles; ++t, ++copied) {
      const unsigned stage = copied % stages, parity = (copied / stages + 1) & 1;
      const int bytes = min(tile_keys / block_tokens, blocks - t * (tile_keys / block_tokens)) * block_tokens * D * 2;
      const std::byte* from = call.kv.tile(max(block, 0), call.layer, work.kv_head) + panel * piece_bytes;
      const bool copies = block >= 0;
      block = t + 1 < work.tiles ? block_at(t + 1) : -1;

      if (copied >= stages) barrier_wait(&room.k_free[stage], parity);
      if (lane == 0) barrier_expect(&room.k_here[stage], bytes);
      __syncwarp();
      if (copies) copy_bulk(room.k[stage] + to, from, piece_bytes, &room.k_here[stage]);

      const int real = work.length - t * tile_keys;
      std::uint64_t* here = real < tile_keys ? &room.last_here : &room.v_here[stage];
      if (copied >= stages) barrier_wait(&room.v_free[stage], parity);
      if (lane == 0) barrier_expect(here, bytes);
      __syncwarp();
      if (copies) copy_bulk(room.v[stage] + to, from + call.kv.value_offset(), piece_bytes, here);
      if (real >= tile_keys) continue;
      barrier_wait(here, cleared++ & 1);
      for (int i = real * 8 + lane; i < tile_keys * 8; i += 32)
        for (int p = 0; p < panels; ++p) reinterpret_cast<uint4*>(room.v[stage] + p * panel_bytes)[i] = uint4{};
      fence_async_proxy();
      __syncwarp();
      if (lane == 0) barrier_arrive(&room.v_here[stage]);
    }
  }
}

/// The 64 query rows of a warpgroup; this lane has rows lane / 4 and 8 behind it of its warp's 16.
template <int D>
class query_group {
public:
  __device__ query_group(group_room<D>& room, const step_tables& tables, const attention_call& call, int splits,
                         int group)
      : room_(room), tables_(tables), call_(call), splits_(splits), group_(group), lane_(threadIdx.x & 31),
        warp_((threadIdx.x >> 5) & 3), scale_(call.scale * 1.44269504f) {}

  __device__ void run() {
    work_list works(call_, splits_);
    prefill_work work;
    bool any = works.next(work);
    if (any) ask_queries(work);
    if (group_ == 1) pass_turn();
    while (any) {
      const int position = work.tile.past + work.tile.first + group_ * group_rows;
      const int rows = work.tile.rows - group_ * group_rows;
      const int end = rows > 0 ? min(work.tiles, (position + group_rows - 1) / tile_keys + 1) : 0;
      const int tiles = max(0, end - work.begin);
      float* const partial = work.partial;
      const std::int64_t row = tables_.first_row[work.tile.sequence] + work.tile.first + group_ * group_rows;
      bf16* out = call_.out + (row * call_.heads + work.head) * D;
      store_queries();
      if (tiles > 0) {
        for (float& o : out_) o = 0;
        maximum_[0] = maximum_[1] = -INFINITY;
        sum_[0] = sum_[1] = 0;
        attend(work.begin, end, position);
      }
      const int all = work.tiles - work.begin;
      any = works.next(work);
      if (any) ask_queries(work);
      if (tiles > 0) {
        add_values(used_ - 1);
        group_commit();
        group_wait<0>();
        hold(out_);
        release(room_.v_free[(used_ - 1) % stages]);
      }
      for (int t = tiles; t < all; ++t, ++used_) skip();
      if (partial) {
        if (rows > 0) store_partial(partial, tiles > 0);
        continue;
      }
      if (tiles == 0) continue;
      synchronise();  // all have done with the queries
      store(out, call_.heads * D, rows);
    }
  }

private:
  __device__ std::byte* panels() const { return room_.q[group_]; }
  __device__ static int chunk_at(int row, int chunk) {
    return chunk / 8 * (group_rows * 128) + row * 128 + ((chunk % 8 ^ row % 8) << 4);
  }
  __device__ void synchronise() const { asm volatile("bar.sync %0, 128;" ::"r"(1 + group_) : "memory"); }

  /// The groups issue their products in turn, so that one's fill the tensor cores while the other does its softmax.
  __device__ void take_turn() const { asm volatile("bar.sync %0, 256;" ::"r"(3 + group_) : "memory"); }
  __device__ void pass_turn() const { asm volatile("bar.arrive %0, 256;" ::"r"(4 - group_) : "memory"); }

  /// All key tiles of a work but for the last one's values.
  __device__ void attend(int begin, int end, int position) {
    take_turn();
    score_tile(used_);
    group_commit();
    pass_turn();
    group_wait<0>();
    hold(score_);
    release(room_.k_free[used_ % stages]);
    soften(begin, position);
    pack();
    ++used_;
    for (int t = begin + 1; t < end; ++t, ++used_) {
      barrier_wait(&room_.k_here[used_ % stages], used_ / stages & 1);
      take_turn();
      score_tile(used_);
      group_commit();
      add_values(used_ - 1);
      group_commit();
      pass_turn();
      group_wait<1>();
      hold(score_);
      release(room_.k_free[used_ % stages]);
      soften(t, position);
      group_wait<0>();
      hold(out_);
      release(room_.v_free[(used_ - 1) % stages]);
#pragma unroll
      for (int i = 0; i < D / 2; ++i) out_[i] *= shrink_[i / 2 % 2];
      pack();
    }
  }
  /// A tile that only the other group has a use for.
  __device__ void skip() {
    take_turn();
    pass_turn();
    barrier_wait(&room_.k_here[used_ % stages], used_ / stages & 1);
    release(room_.k_free[used_ % stages]);
    barrier_wait(&room_.v_here[used_ % stages], used_ / stages & 1);
    release(room_.v_free[used_ % stages]);
  }

  /// The rows' queries to registers, while there is other work; store_queries takes them to shared memory.
  __device__ void ask_queries(const prefill_work& work) {
    const int width = (call_.heads + 2 * call_.kv.kv_heads) * D, rows = work.tile.rows - group_ * group_rows;
    const bf16* from =
        call_.qkv +
        (tables_.first_row[work.tile.sequence] + work.tile.first + std::int64_t{group_} * group_rows) * width +
        work.head * D;
#pragma unroll
    for (int i = 0; i < queries_a_thread; ++i) {
      const int at = static_cast<int>(threadIdx.x & 127) + i * 128, row = at / (D / 8);
      queries_[i] =
          row < rows ? *reinterpret_cast<const uint4*>(from + std::int64_t{row} * width + at % (D / 8) * 8) : uint4{};
    }
  }
  __device__ void store_queries() {
    synchronise();  // the results of the work before have left their place
#pragma unroll
    for (int i = 0; i < queries_a_thread; ++i) {
      const int at = static_cast<int>(threadIdx.x & 127) + i * 128;
      *reinterpret_cast<uint4*>(panels() + chunk_at(at / (D / 8), at % (D / 8))) = queries_[i];
    }
    fence_async_proxy();
    synchronise();
  }

  // Tiles are numbered through all works of the block.
  __device__ void score_tile(unsigned t) {
    barrier_wait(&room_.k_here[t % stages], t / stages & 1);
    const std::uint32_t q = shared_address(panels()), k = shared_address(room_.k[t % stages]);
    group_fence();
#pragma unroll
    for (int s = 0; s < D / 16; ++s)
      group_multiply<tile_keys>(score_, operand(q + s / 4 * (group_rows * 128) + s % 4 * 32),
                                operand(k + s / 4 * panel_bytes + s % 4 * 32), s > 0);
  }
  __device__ void add_values(unsigned t) {
    barrier_wait(&room_.v_here[t % stages], t / stages & 1);
    const std::uint32_t v = shared_address(room_.v[t % stages]);
    group_fence();
#pragma unroll
    for (int s = 0; s < tile_keys / 16; ++s) group_multiply<D>(out_, weights_[s], operand(v + s * 2048, panel_bytes));
  }
  __device__ void release(std::uint64_t& barrier) const {
    if (lane_ == 0) barrier_arrive(&barrier);
  }

  /// Scores to weights, under the largest score so far.
  __device__ void soften(int t, int position) {
    if (t * tile_keys + tile_keys - 1 > position) {
      const int seen = position + warp_ * 16 + lane_ / 4 - t * tile_keys - lane_ % 4 * 2;
#pragma unroll
      for (int i = 0; i < tile_keys / 2; ++i)
        if (i / 4 * 8 + i % 2 > seen + i / 2 % 2 * 8) score_[i] = -INFINITY;
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float best = maximum_[r];
#pragma unroll
      for (int i = 2 * r; i < tile_keys / 2; i += 4) best = fmaxf(best, fmaxf(score_[i], score_[i + 1]));
      best = fmaxf(best, __shfl_xor_sync(~0u, best, 1));
      best = fmaxf(best, __shfl_xor_sync(~0u, best, 2));
      const float base = best == -INFINITY ? 0.0f : best;  // a part may begin with keys that a row does not see
      shrink_[r] = exp2_fast((maximum_[r] - base) * scale_);
      maximum_[r] = best;
      const float offset = base * scale_;
      float fresh = 0;
#pragma unroll
      for (int i = 2 * r; i < tile_keys / 2; i += 4) {
        score_[i] = exp2_fast(fmaf(score_[i], scale_, -offset));
        score_[i + 1] = exp2_fast(fmaf(score_[i + 1], scale_, -offset));
        fresh += score_[i] + score_[i + 1];
      }
      sum_[r] = sum_[r] * shrink_[r] + fresh;
    }
  }
  __device__ void pack() {
#pragma unroll
    for (int i = 0; i < tile_keys / 4; ++i) weights_[i / 4][i % 4] = pack_bf16(score_[2 * i], score_[2 * i + 1]);
  }

  /// The part's results as they are, for merge_splits. `any`: there were keys.
  __device__ void store_partial(float* to, bool any) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      sum_[r] += __shfl_xor_sync(~0u, sum_[r], 1);
      sum_[r] += __shfl_xor_sync(~0u, sum_[r], 2);
      const int row = group_ * group_rows + warp_ * 16 + lane_ / 4 + r * 8;
      if (lane_ % 4 == 0)
        *reinterpret_cast<float2*>(to + groups * group_rows * D + 2 * row) =
            any ? float2{maximum_[r], sum_[r]} : float2{-INFINITY, 0.0f};
      if (!any) continue;
#pragma unroll
      for (int c = 0; c < D / 8; ++c)
        *reinterpret_cast<float2*>(to + row * D + c * 8 + lane_ % 4 * 2) = {out_[4 * c + 2 * r],
                                                                            out_[4 * c + 2 * r + 1]};
    }
  }

  __device__ void store(bf16* rows, int stride, int count) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      sum_[r] += __shfl_xor_sync(~0u, sum_[r], 1);
      sum_[r] += __shfl_xor_sync(~0u, sum_[r], 2);
      const float all = 1.0f / sum_[r];
      const int row = warp_ * 16 + lane_ / 4 + r * 8;
#pragma unroll
      for (int c = 0; c < D / 8; ++c)
        *reinterpret_cast<std::uint32_t*>(panels() + chunk_at(row, c) + lane_ % 4 * 4) =
            pack_bf16(out_[4 * c + 2 * r] * all, out_[4 * c + 2 * r + 1] * all);
    }
    __syncwarp();
    for (int i = lane_; i < 16 * (D / 8); i += 32) {
      const int row = warp_ * 16 + i / (D / 8), chunk = i % (D / 8);
      if (row < count)
        *reinterpret_cast<uint4*>(rows + std::int64_t{row} * stride + chunk * 8) =
            *reinterpret_cast<const uint4*>(panels() + chunk_at(row, chunk));
    }
  }

  static constexpr int queries_a_thread = group_rows * D / 8 / 128;

  group_room<D>& room_;
  const step_tables& tables_;
  const attention_call& call_;
  int splits_, group_, lane_, warp_;
  float scale_;
  unsigned used_ = 0;
  uint4 queries_[queries_a_thread];
  float score_[tile_keys / 2];
  float out_[D / 2] = {};
  std::uint32_t weights_[tile_keys / 16][4];
  float maximum_[2] = {-INFINITY, -INFINITY};
  float sum_[2] = {};
  float shrink_[2];
};

#endif

/// A warp a row and head: the parts of its keys, in order.
template <int D>
__global__ void __launch_bounds__(256) merge_splits(step_tables tables, attention_call call, int splits) {
  let_successor_start();
  wait_for_predecessor();
  const int lane = threadIdx.x & 31, row = static_cast<int>(blockIdx.z * 8 + threadIdx.x / 32), head = blockIdx.y;
  if (static_cast<int>(blockIdx.x) >= call.plan.counts[1]) return;
  const prefill_tile tile = call.plan.tiles[blockIdx.x];
  if (row >= tile.rows) return;
  const float* parts = reinterpret_cast<const float*>(call.split_workspace) +
                       (std::int64_t{blockIdx.x} * call.heads + head) * splits * split_floats(D);
  const float scale = call.scale * 1.44269504f;
  float best = -INFINITY, sum = 0, out[D / 32] = {};
  for (int s = 0; s < splits; ++s) best = fmaxf(best, parts[s * split_floats(D) + prefill_rows_a_tile * D + 2 * row]);
  for (int s = 0; s < splits; ++s) {
    const float* part = parts + s * split_floats(D);
    const float2 about = *reinterpret_cast<const float2*>(part + prefill_rows_a_tile * D + 2 * row);
    if (about.x == -INFINITY) continue;
    const float weight = exp2_fast((about.x - best) * scale);
    sum += weight * about.y;
    for (int i = 0; i < D / 32; ++i) out[i] += weight * part[row * D + lane * (D / 32) + i];
  }
  bf16* to = call.out + ((tables.first_row[tile.sequence] + tile.first + row) * std::int64_t{call.heads} + head) * D +
             lane * (D / 32);
  for (int i = 0; i < D / 32; i += 2)
    *reinterpret_cast<std::uint32_t*>(to + i) = pack_bf16(out[i] / sum, out[i + 1] / sum);
}

template <int D>
__global__ void __launch_bounds__(threads, 1) prefill_groups(step_tables tables, attention_call call, int splits) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ std::byte shared[];
  auto& room = *reinterpret_cast<group_room<D>*>(shared + (-shared_address(shared) & 1023));
  let_successor_start();
  if (threadIdx.x == 0) {
    for (int s = 0; s < stages; ++s) {
      barrier_init(&room.k_here[s], 1);
      barrier_init(&room.v_here[s], 1);
      barrier_init(&room.k_free[s], groups * 4);
      barrier_init(&room.v_free[s], groups * 4);
    }
    barrier_init(&room.last_here, 1);
    barrier_init_fence();
  }
  __syncthreads();
  wait_for_predecessor();
  const int group = static_cast<int>(threadIdx.x) / 128;
  if (group == groups) {
    lower_registers<24>();
    if (threadIdx.x / 32 == groups * 4) produce<D>(room, tables, call, splits);
  } else {
    raise_registers<240>();
    query_group<D>(room, tables, call, splits, group).run();
  }
#endif
}

int processors_here() {
  int device = 0, processors = 0;
  static_cast<void>(cudaGetDevice(&device));
  static_cast<void>(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device));
  return processors;
}

/// As many parts of each tile's keys as fill the device once.
int splits_of(const attention_call& call, int processors) {
  if (call.tiles < 1 || !call.split_workspace) return 1;
  return std::clamp(std::min(processors / (call.tiles * call.heads), call.longest / (tile_keys * least_split_tiles)), 1,
                    most_splits_a_tile);
}

template <int D>
void launch_groups(const attention_call& call, cudaStream_t on) {
  constexpr std::size_t bytes = sizeof(group_room<D>) + 1024;
  const int processors = processors_here(), splits = splits_of(call, processors);
  static_cast<void>(cudaFuncSetAttribute(prefill_groups<D>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  static_cast<void>(cudaFuncSetAttribute(prefill_groups<D>, cudaFuncAttributePreferredSharedMemoryCarveout,
                                         cudaSharedmemCarveoutMaxShared));
  const std::int64_t most =
      most_tiles(call.tables->sequences, call.tables->rows, groups * group_rows) * call.heads * splits;
  launch(prefill_groups<D>, dim3(static_cast<unsigned>(std::min<std::int64_t>(processors, most))), dim3(threads), bytes,
         on, *call.tables, call, splits);
  if (splits == 1) return;
  const dim3 grid(static_cast<unsigned>(call.tiles), static_cast<unsigned>(call.heads), prefill_rows_a_tile / 8);
  launch(merge_splits<D>, grid, dim3(256), 0, on, *call.tables, call, splits);
}

}  // namespace

std::int64_t prefill_workspace_bytes(std::int32_t head_dim) { return processors_here() * split_floats(head_dim) * 4; }

void attend_prefill_by_groups(const attention_call& call, cudaStream_t on) {
  if (call.kv.head_dim == 128) return launch_groups<128>(call, on);
  launch_groups<64>(call, on);
}

}  // namespace troupe::kernels::cuda
