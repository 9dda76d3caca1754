// Prefill attention on Hopper: a producer warp copies key tiles of 128 tokens as they lie in the arena; two warpgroups of 64
// query rows multiply by wgmma, the next tile's scores beside the softmax of this one (Shah et al., "FlashAttention-3",
// 2024), tile by tile from position 0. Knows the arena's layout; no model.
#include "kernels/cuda/attention_prefill.hpp"
#include "kernels/cuda/group_tiles.hpp"

namespace troupe::kernels::cuda {
namespace {

constexpr int groups = 2;
constexpr int group_rows = 64;
constexpr int threads = (1 + groups) * 128;
constexpr int tile_keys = 128;
constexpr int stages = 2;
constexpr int block_tokens = kv_layout::block_tokens;
constexpr int panel_bytes = tile_keys * 128;  ///< 64 dims of a tile

template <int D>
struct group_room {
  std::byte q[groups][group_rows * D * 2];  // panels of 64 dims; later the results
  std::byte k[stages][tile_keys * D * 2];   // panels of 64 dims
  std::byte v[stages][tile_keys * D * 2];
  std::uint64_t k_here[stages], k_free[stages], v_here[stages], v_free[stages], last_here;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

struct prefill_work {
  prefill_tile tile;
  const int* table;
  int head, kv_head, length, tiles;
};

/// Copies the tiles' blocks, a lane a block and panel. Values behind the last token become zeros: 0 * NaN is NaN.
template <int D>
__device__ void produce(group_room<D>& room, const attention_call& call, const prefill_work& work) {
  const int lane = threadIdx.x & 31;
  constexpr int panels = D / 64, pieces = tile_keys / block_tokens * panels, piece_bytes = block_tokens * 128;
  const int piece_block = lane / panels, panel = lane % panels;
  const int blocks = (work.length + block_tokens - 1) / block_tokens;
  const auto block_at = [&](int t) {
    const int at = t * (tile_keys / block_tokens) + piece_block;
    return lane < pieces && at < blocks ? work.table[at] : -1;
  };
  int block = block_at(0);
  for (int t = 0; t < work.tiles; ++t) {
    const int stage = t % stages;
    const unsigned parity = (t / stages + 1) & 1;
    const int bytes = min(tile_keys / block_tokens, blocks - t * (tile_keys / block_tokens)) * block_tokens * D * 2;
    const std::byte* from = call.kv.tile(max(block, 0), call.layer, work.kv_head) + panel * piece_bytes;
    const int to = panel * panel_bytes + piece_block * piece_bytes;
    const bool copies = block >= 0;
    block = t + 1 < work.tiles ? block_at(t + 1) : -1;

    if (t >= stages) barrier_wait(&room.k_free[stage], parity);
    if (lane == 0) barrier_expect(&room.k_here[stage], bytes);
    __syncwarp();
    if (copies) copy_bulk(room.k[stage] + to, from, piece_bytes, &room.k_here[stage]);

    const int real = work.length - t * tile_keys;
    std::uint64_t* here = real < tile_keys ? &room.last_here : &room.v_here[stage];
    if (t >= stages) barrier_wait(&room.v_free[stage], parity);
    if (lane == 0) barrier_expect(here, bytes);
    __syncwarp();
    if (copies) copy_bulk(room.v[stage] + to, from + call.kv.value_offset(), piece_bytes, here);
    if (real >= tile_keys) continue;
    barrier_wait(here, 0);
    for (int i = real * 8 + lane; i < tile_keys * 8; i += 32)
      for (int p = 0; p < panels; ++p) reinterpret_cast<uint4*>(room.v[stage] + p * panel_bytes)[i] = uint4{};
    fence_async_proxy();
    __syncwarp();
    if (lane == 0) barrier_arrive(&room.v_here[stage]);
  }
}

/// The 64 query rows of a warpgroup; this lane has rows lane / 4 and 8 behind it of its warp's 16.
template <int D>
class query_group {
public:
  __device__ query_group(group_room<D>& room, int group) : room_(room), group_(group), lane_(threadIdx.x & 31), warp_((threadIdx.x >> 5) & 3) {}

  __device__ void run(const attention_call& call, const prefill_work& work, std::int64_t first_row) {
    const int rows = work.tile.rows - group_ * group_rows;
    if (rows <= 0) return;
    const int position = work.tile.past + work.tile.first + group_ * group_rows;
    const int tiles = min(work.tiles, (position + group_rows - 1) / tile_keys + 1);
    const std::int64_t row = first_row + work.tile.first + group_ * group_rows;
    const int width = (call.heads + 2 * call.kv.kv_heads) * D;
    scale_ = call.scale * 1.44269504f;
    load(call.qkv + row * width + work.head * D, width, rows);

    const bool paired = work.tile.rows > group_rows;
    if (paired && group_ == 1) pass_turn();
    if (paired) take_turn();
    score_tile(0);
    group_commit();
    if (paired) pass_turn();
    group_wait<0>();
    hold(score_);
    release(room_.k_free[0]);
    soften(0, position);
    pack();
    for (int t = 1; t < tiles; ++t) {
      barrier_wait(&room_.k_here[t % stages], t / stages & 1);
      if (paired) take_turn();
      score_tile(t);
      group_commit();
      add_values(t - 1);
      group_commit();
      if (paired) pass_turn();
      group_wait<1>();
      hold(score_);
      release(room_.k_free[t % stages]);
      soften(t, position);
      group_wait<0>();
      hold(out_);
      release(room_.v_free[(t - 1) % stages]);
#pragma unroll
      for (int i = 0; i < D / 2; ++i) out_[i] *= shrink_[i / 2 % 2];
      pack();
    }
    if (paired && tiles < work.tiles) pass_turn();  // the other group has one more tile
    add_values(tiles - 1);
    group_commit();
    group_wait<0>();
    hold(out_);
    store(call.out + (row * call.heads + work.head) * D, call.heads * D, rows);
  }

private:
  __device__ std::byte* panels() const { return room_.q[group_]; }
  __device__ static int chunk_at(int row, int chunk) { return chunk / 8 * (group_rows * 128) + row * 128 + ((chunk % 8 ^ row % 8) << 4); }
  __device__ void synchronise() const { asm volatile("bar.sync %0, 128;" ::"r"(1 + group_) : "memory"); }

  /// The groups issue their products in turn, so that one's fill the tensor cores while the other does its softmax.
  __device__ void take_turn() const { asm volatile("bar.sync %0, 256;" ::"r"(3 + group_) : "memory"); }
  __device__ void pass_turn() const { asm volatile("bar.arrive %0, 256;" ::"r"(4 - group_) : "memory"); }

  __device__ void load(const bf16* rows, int stride, int count) {
    for (int i = threadIdx.x & 127; i < group_rows * (D / 8); i += 128) {
      const int row = i / (D / 8), chunk = i % (D / 8);
      const uint4 value = row < count ? *reinterpret_cast<const uint4*>(rows + std::int64_t{row} * stride + chunk * 8) : uint4{};
      *reinterpret_cast<uint4*>(panels() + chunk_at(row, chunk)) = value;
    }
    fence_async_proxy();
    synchronise();
  }

  __device__ void score_tile(int t) {
    barrier_wait(&room_.k_here[t % stages], t / stages & 1);
    const std::uint32_t q = shared_address(panels()), k = shared_address(room_.k[t % stages]);
    group_fence();
#pragma unroll
    for (int s = 0; s < D / 16; ++s)
      group_multiply<tile_keys>(score_, operand(q + s / 4 * (group_rows * 128) + s % 4 * 32), operand(k + s / 4 * panel_bytes + s % 4 * 32), s > 0);
  }
  __device__ void add_values(int t) {
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
      shrink_[r] = exp2_fast((maximum_[r] - best) * scale_);
      maximum_[r] = best;
      const float offset = best * scale_;
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

  __device__ void store(bf16* rows, int stride, int count) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      sum_[r] += __shfl_xor_sync(~0u, sum_[r], 1);
      sum_[r] += __shfl_xor_sync(~0u, sum_[r], 2);
      const float all = 1.0f / sum_[r];
      const int row = warp_ * 16 + lane_ / 4 + r * 8;
#pragma unroll
      for (int c = 0; c < D / 8; ++c)
        *reinterpret_cast<std::uint32_t*>(panels() + chunk_at(row, c) + lane_ % 4 * 4) = pack_bf16(out_[4 * c + 2 * r] * all, out_[4 * c + 2 * r + 1] * all);
    }
    __syncwarp();
    for (int i = lane_; i < 16 * (D / 8); i += 32) {
      const int row = warp_ * 16 + i / (D / 8), chunk = i % (D / 8);
      if (row < count) *reinterpret_cast<uint4*>(rows + std::int64_t{row} * stride + chunk * 8) = *reinterpret_cast<const uint4*>(panels() + chunk_at(row, chunk));
    }
  }

  group_room<D>& room_;
  int group_, lane_, warp_;
  float scale_ = 1;
  float score_[tile_keys / 2];
  float out_[D / 2] = {};
  std::uint32_t weights_[tile_keys / 16][4];
  float maximum_[2] = {-INFINITY, -INFINITY};
  float sum_[2] = {};
  float shrink_[2];
};

#endif

template <int D>
__global__ void __launch_bounds__(threads, 1) prefill_groups(step_tables tables, attention_call call) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ std::byte shared[];
  auto& room = *reinterpret_cast<group_room<D>*>(shared + (-shared_address(shared) & 1023));
  let_successor_start();
  wait_for_predecessor();
  if (static_cast<int>(blockIdx.y) >= call.plan.counts[1]) return;
  prefill_work work;
  work.tile = call.plan.tiles[blockIdx.y];
  work.table = tables.block_tables + std::int64_t{work.tile.sequence} * tables.table_stride;
  work.head = blockIdx.x;
  work.kv_head = work.head / (call.heads / call.kv.kv_heads);
  work.length = work.tile.past + work.tile.first + work.tile.rows;
  work.tiles = (work.length + tile_keys - 1) / tile_keys;
  const std::int64_t first_row = tables.first_row[work.tile.sequence];
  if (threadIdx.x == 0) {
    const unsigned releases = work.tile.rows > group_rows ? groups * 4 : 4;
    for (int s = 0; s < stages; ++s) {
      barrier_init(&room.k_here[s], 1);
      barrier_init(&room.v_here[s], 1);
      barrier_init(&room.k_free[s], releases);
      barrier_init(&room.v_free[s], releases);
    }
    barrier_init(&room.last_here, 1);
    barrier_init_fence();
  }
  __syncthreads();
  const int group = static_cast<int>(threadIdx.x) / 128;
  if (group == groups) {
    lower_registers<24>();
    if (threadIdx.x / 32 == groups * 4) produce<D>(room, call, work);
  } else {
    raise_registers<240>();
    query_group<D>(room, group).run(call, work, first_row);
  }
#endif
}

template <int D>
void launch_groups(const attention_call& call, cudaStream_t on) {
  constexpr std::size_t bytes = sizeof(group_room<D>) + 1024;
  const auto tiles = static_cast<unsigned>(most_tiles(call.tables->sequences, call.tables->rows, groups * group_rows));
  static_cast<void>(cudaFuncSetAttribute(prefill_groups<D>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  launch(prefill_groups<D>, dim3(static_cast<unsigned>(call.heads), tiles), dim3(threads), bytes, on, *call.tables, call);
}

}  // namespace

void attend_prefill_by_groups(const attention_call& call, cudaStream_t on) {
  if (call.kv.head_dim == 128) return launch_groups<128>(call, on);
  launch_groups<64>(call, on);
}

}  // namespace troupe::kernels::cuda
