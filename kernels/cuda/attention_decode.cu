// Decode attention: a block of four warps walks the step's list of (split, KV head); each warp streams its own 16-token
// tiles through shared memory, ahead of the arithmetic and across the borders of items. K . Q^T and V^T . P on the tensor
// cores with the query heads of a group as the 8 columns. The block that finishes a sequence's last split merges them
// all, in their order. Knows the arena's layout; no model.
#include <algorithm>

#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/rotate.hpp"
#include "kernels/cuda/warp_tiles.hpp"

namespace troupe::kernels::cuda {
namespace {

constexpr int warps = 4;
constexpr int threads = warps * 32;
constexpr int columns = 8;  ///< query heads of one item
constexpr int quad = 4;     ///< heads that are summed over the warps at a time: two blocks must fit a multiprocessor
constexpr int stages = 3;
constexpr int block_tokens = kv_layout::block_tokens;
constexpr int most_sequences = 1024;
constexpr float minus_infinity = -INFINITY;

/// Query heads of a KV head in groups of up to eight.
struct head_groups {
  int heads;  ///< query heads of a KV head
  int groups;  ///< of a KV head
  int all;     ///< of all KV heads
};

struct workspace_view {
  int* arrivals;   ///< [sequence][group]
  float* records;  ///< [slot][group][column][D + 4]: sums of values, maximum, sum
};

template <int D>
struct decode_room {
  alignas(128) std::byte tiles[warps][stages][2][block_tokens * D * 2];
  alignas(16) bf16 queries[2][columns][D + 8];  // of this item and the next; rows 16 bytes apart in the banks
  alignas(16) bf16 newest[2][2][D];             // K and V of a sequence's last token, where the item ends with it
  float sums[warps][quad][D + 4];
  float2 states[warps][columns];
  std::uint64_t arrived[warps][stages];
  int last;
};

/// The tiles of one warp, in the order of its items, up to `stages` ahead of their use.
template <int D>
class tile_stream {
public:
  static constexpr int tile_bytes = block_tokens * D * 2;

  __device__ tile_stream(const step_tables& tables, const attention_call& call, const head_groups& heads, decode_room<D>& room, int works)
      : tables_(tables), call_(call), heads_(heads), room_(room), works_(works), lane_(threadIdx.x & 31), warp_(threadIdx.x >> 5) {
#if __CUDA_ARCH__ >= 900
    if (lane_ < stages) barrier_init(&room_.arrived[warp_][lane_], 1);
    barrier_init_fence();
    __syncwarp();
#endif
    work_ = static_cast<int>(blockIdx.x) - static_cast<int>(gridDim.x);
    ahead_ = item_at(blockIdx.x);
    ahead_blocks_ = blocks_of(ahead_);
    far_ahead_ = item_at(blockIdx.x + gridDim.x);
    enter();
    for (int i = 0; i < stages; ++i) fetch();
  }

  /// The oldest tile pair (K, V behind it), once it is there.
  __device__ std::byte* front() {
#if __CUDA_ARCH__ >= 900
    barrier_wait(&room_.arrived[warp_][used_ % stages], (used_ / stages) & 1);
#else
    copies_wait<stages - 1>();
    __syncwarp();
#endif
    return room_.tiles[warp_][used_ % stages][0];
  }
  /// Gives its room to the next one.
  __device__ void pop() {
    ++used_;
    __syncwarp();
    fetch();
  }
  /// How many tiles of an item are this warp's.
  __device__ static int share(int tokens, int warp) { return ((tokens + block_tokens - 1) / block_tokens - warp + warps - 1) / warps; }

private:
  __device__ int2 item_at(int work) const {  // first block, tokens
    return work < works_ ? *reinterpret_cast<const int2*>(call_.plan.splits + work / heads_.all) : int2{};
  }
  __device__ int blocks_of(int2 item) const { return lane_ < share(item.y, warp_) ? tables_.block_tables[item.x + warp_ + lane_ * warps] : 0; }

  /// Turns to the next item in which this warp has tiles; asks for what the items after it need, long before they do.
  __device__ void enter() {
    do {
      work_ += gridDim.x;
      left_ = share(ahead_.y, warp_);
      blocks_ = ahead_blocks_;
      ahead_ = far_ahead_;
      ahead_blocks_ = blocks_of(ahead_);
      far_ahead_ = item_at(work_ + 2 * gridDim.x);
    } while (left_ <= 0 && work_ < works_);
    next_ = 0;
    kv_head_ = work_ % heads_.all / heads_.groups;
  }
  __device__ void fetch() {
    if (work_ < works_) {
      const int block = __shfl_sync(~0u, blocks_, next_);
      const std::byte* from = call_.kv.tile(block, call_.layer, kv_head_);
      auto* to = room_.tiles[warp_][fetched_ % stages];
#if __CUDA_ARCH__ >= 900
      if (lane_ == 0) {
        std::uint64_t* barrier = &room_.arrived[warp_][fetched_ % stages];
        barrier_expect(barrier, 2 * tile_bytes);
        copy_bulk(to[0], from, tile_bytes, barrier);
        copy_bulk(to[1], from + call_.kv.value_offset(), tile_bytes, barrier);
      }
#else
      for (int at = lane_ * 16; at < tile_bytes; at += 512) {
        copy_16(to[0] + at, from + at);
        copy_16(to[1] + at, from + call_.kv.value_offset() + at);
      }
#endif
      ++fetched_;
      ++next_;
      if (--left_ == 0) enter();
    }
#if __CUDA_ARCH__ < 900
    copies_commit();
#endif
  }

  const step_tables& tables_;
  const attention_call& call_;
  const head_groups& heads_;
  decode_room<D>& room_;
  int works_, lane_, warp_;
  int2 ahead_, far_ahead_;
  int ahead_blocks_ = 0, blocks_ = 0;
  int work_ = 0, kv_head_ = 0, left_ = 0, next_ = 0;
  unsigned fetched_ = 0, used_ = 0;
};

/// Which heads of which row an item is about.
struct item_heads {
  int group, kv_head, first, own;

  __device__ item_heads(int work, const head_groups& heads)
      : group(work % heads.all), kv_head(group / heads.groups), first(kv_head * heads.heads + group % heads.groups * columns),
        own(min(columns, (kv_head + 1) * heads.heads - first)) {}
};

/// Brings the queries of an item to shared memory, rotated, and K and V of its newest token: asked for one item ahead,
/// stored when the item before is done. A thread has 16 numbers of one head.
template <int D>
class row_loader {
public:
  __device__ row_loader(const attention_call& call, decode_room<D>& room) : call_(call), room_(room) {}

  __device__ void ask(const decode_split& split, const item_heads& heads) {
    constexpr int units = D / 16;
    const int unit = threadIdx.x % units, head = threadIdx.x / units;
    const bool ends = split.valid <= split.tokens && call_.rope.angles;
    kind_ = head < heads.own ? query : head < columns ? nothing : ends && head < columns + 2 ? newest : nothing;
    at_ = chunks_of(unit, call_.rope);
    if (kind_ == nothing) return;
    const int of_row = kind_ == query ? heads.first + head : call_.heads + (head - columns) * call_.kv.kv_heads + heads.kv_head;
    const auto* from = reinterpret_cast<const chunk*>(call_.qkv + (std::int64_t{split.row} * (call_.heads + 2 * call_.kv.kv_heads) + of_row) * D);
    low_ = from[at_.x];
    high_ = from[at_.y];
    angles_ = head == columns + 1 ? row_angles() : row_angles(call_.rope, split.row, unit);  // V does not turn
  }

  __device__ void store(int turn) {
    constexpr int units = D / 16;
    const int head = threadIdx.x / units;
    if (kind_ == nothing) {
      if (head < columns) {
        chunk none{};
        put(room_.queries[turn][head], none, none);
      }
      return;
    }
    angles_.rotate(low_, high_);
    put(kind_ == query ? room_.queries[turn][head] : room_.newest[turn][head - columns], low_, high_);
  }

private:
  enum role { nothing, query, newest };
  __device__ void put(bf16* to, const chunk& low, const chunk& high) const {
    reinterpret_cast<chunk*>(to)[at_.x] = low;
    reinterpret_cast<chunk*>(to)[at_.y] = high;
  }

  const attention_call& call_;
  decode_room<D>& room_;
  role kind_ = nothing;
  int2 at_{};
  chunk low_, high_;
  row_angles angles_;
};

/// The queries of a group as the B operand of K . Q^T: registers 2 s and 2 s + 1 hold dims 16 s ... of head lane / 4.
template <int D>
struct query_columns {
  std::uint32_t pairs[D / 8];

  __device__ void load(const bf16 (&queries)[columns][D + 8]) {
    const int lane = threadIdx.x & 31;
#pragma unroll
    for (int c = 0; c < D / 8; c += 4) {
      std::uint32_t four[4];
      load_matrices(four, shared_address(&queries[lane & 7][(c + (lane >> 3)) * 8]));
      for (int i = 0; i < 4; ++i) pairs[c + i] = four[i];
    }
  }
};

/// What a warp knows of its tiles so far: for columns 2 (lane % 4) and the one after it, in powers of two.
template <int D>
struct column_state {
  float maximum[2] = {minus_infinity, minus_infinity};
  float sum[2] = {};  ///< of this lane's keys
  float out[D / 16][4] = {};

  /// One tile: the first `valid` of its tokens count.
  __device__ void add(const std::byte* tile, const query_columns<D>& q, int valid, float scale) {
    const int lane = threadIdx.x & 31;
    const std::uint32_t keys = shared_address(tile);
    float even[4] = {}, odd[4] = {};
    const int key = lane & 15;
#pragma unroll
    for (int s = 0; s < D / 16; ++s) {
      std::uint32_t a[4];
      load_matrices(a, keys + kv_layout::chunk_offset(key, 2 * s + (lane >> 4)));
      multiply_add(s % 2 ? odd : even, a, q.pairs[2 * s], q.pairs[2 * s + 1]);
    }
    float score[4];
    for (int i = 0; i < 4; ++i) score[i] = lane / 4 + (i & 2) * 4 < valid ? (even[i] + odd[i]) * scale : minus_infinity;
    float shrink[2];
    for (int c = 0; c < 2; ++c) {
      float best = fmaxf(score[c], score[c + 2]);
      for (int step = 4; step < 32; step *= 2) best = fmaxf(best, __shfl_xor_sync(~0u, best, step));
      best = fmaxf(best, maximum[c]);
      shrink[c] = exp2_fast(maximum[c] - best);
      maximum[c] = best;
      score[c] = exp2_fast(score[c] - best);
      score[c + 2] = exp2_fast(score[c + 2] - best);
      sum[c] = sum[c] * shrink[c] + (score[c] + score[c + 2]);
    }
    if (__any_sync(~0u, shrink[0] != 1.0f || shrink[1] != 1.0f))
      for (auto& o : out)
        for (int i = 0; i < 4; ++i) o[i] *= shrink[i & 1];
    const std::uint32_t low = transpose_matrix(pack_bf16(score[0], score[1]));
    const std::uint32_t high = transpose_matrix(pack_bf16(score[2], score[3]));
    const std::uint32_t values = keys + block_tokens * D * 2;
    const int token = (lane & 7) + (lane & 16) / 2;
#pragma unroll
    for (int m = 0; m < D / 16; ++m) {
      std::uint32_t a[4];
      load_matrices_transposed(a, values + kv_layout::chunk_offset(token, 2 * m + ((lane >> 3) & 1)));
      multiply_add(out[m], a, low, high);
    }
  }
  /// The lanes' sums to the warp's.
  __device__ void close() {
    for (float& own : sum)
      for (int step = 4; step < 32; step *= 2) own += __shfl_xor_sync(~0u, own, step);
  }
};

/// The sequence's newest token, from shared memory to its place in the tile and in the arena.
template <int D>
__device__ void add_newest(std::byte* tile, const bf16 (&newest)[2][D], const kv_layout& kv, std::byte* arena, int token) {
  const int lane = threadIdx.x & 31;
  if (lane >= D / 4) return;
  const int value = lane / (D / 8), at = lane % (D / 8);
  const chunk c = reinterpret_cast<const chunk*>(newest[value])[at];
  const int to = kv_layout::chunk_offset(token, at);
  *reinterpret_cast<chunk*>(tile + value * (block_tokens * D * 2) + to) = c;
  *reinterpret_cast<chunk*>(arena + value * kv.value_offset() + to) = c;
}

/// What lies behind the newest token may be anything, and 0 * NaN is NaN.
template <int D>
__device__ void clear_values(std::byte* tile, int valid) {
  for (int at = valid * (D / 8) + (threadIdx.x & 31); at < block_tokens * (D / 8); at += 32)
    *reinterpret_cast<uint4*>(tile + block_tokens * D * 2 + kv_layout::chunk_offset(at / (D / 8), at % (D / 8))) = uint4{};
}

/// Heads first ... first + 3 of the warp's state.
template <int D>
__device__ void write_room(decode_room<D>& room, const column_state<D>& state, int first) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
#pragma unroll
  for (int c = 0; c < 2; ++c) {
    const int head = lane % 4 * 2 + c;
    if (head / quad != first / quad) continue;
    if (lane < 4) room.states[warp][head] = {state.maximum[c], state.sum[c]};
#pragma unroll
    for (int m = 0; m < D / 16; ++m) {
      room.sums[warp][head % quad][m * 16 + lane / 4] = state.out[m][c];
      room.sums[warp][head % quad][m * 16 + 8 + lane / 4] = state.out[m][c + 2];
    }
  }
}

/// Four dims of one head, summed under one maximum.
struct merged {
  float maximum = minus_infinity;
  float sum = 0;
  float4 out = {};

  __device__ void add(float2 state, float4 part) {
    const float best = fmaxf(maximum, state.x);
    if (best == minus_infinity) return;
    const float old = exp2_fast(maximum - best), fresh = exp2_fast(state.x - best);
    maximum = best;
    sum = sum * old + state.y * fresh;
    out.x = out.x * old + part.x * fresh;
    out.y = out.y * old + part.y * fresh;
    out.z = out.z * old + part.z * fresh;
    out.w = out.w * old + part.w * fresh;
  }
  __device__ void store(bf16* to) const {
    const float all = 1.0f / sum;
    *reinterpret_cast<uint2*>(to) = {pack_bf16(out.x * all, out.y * all), pack_bf16(out.z * all, out.w * all)};
  }
};

/// The splits of one sequence and group, in order.
template <int D>
__device__ merged merge_splits(const workspace_view& space, int groups, int first_slot, int group, int splits, int head, int dim) {
  constexpr int batch = 8;
  merged all;
  for (int s = 0; s < splits; s += batch) {
    float2 states[batch];
    float4 parts[batch];
#pragma unroll
    for (int i = 0; i < batch; ++i) {
      const std::int64_t at = (std::int64_t{first_slot + min(s + i, splits - 1)} * groups + group) * columns + head;
      const float* record = space.records + at * (D + 4);
      states[i] = __ldcg(reinterpret_cast<const float2*>(record + D));
      parts[i] = __ldcg(reinterpret_cast<const float4*>(record + dim));
    }
#pragma unroll
    for (int i = 0; i < batch; ++i)
      if (s + i < splits) all.add(states[i], parts[i]);
  }
  return all;
}

/// Whose last split was it? Asked after an item, answered an item later, so that nobody waits for the atomic.
struct arrival {
  int slot = -1;  ///< -1: nothing to merge
  int first_slot, splits, group, row, first_head, heads, sequence;
};

template <int D>
class decode_block {
public:
  __device__ decode_block(const step_tables& tables, const attention_call& call, const head_groups& heads, const workspace_view& space, decode_room<D>& room)
      : tables_(tables), call_(call), heads_(heads), space_(space), room_(room), works_(call.plan.counts[0] * heads.all) {}

  __device__ void run() {
    const bool fused = call_.rope.angles != nullptr;
    if (!fused) wait_for_predecessor();
    decode_split now = split_at(blockIdx.x), next = split_at(blockIdx.x + gridDim.x);
    tile_stream<D> tiles(tables_, call_, heads_, room_, works_);
    if (fused) wait_for_predecessor();
    if (static_cast<int>(blockIdx.x) >= works_) return;
    row_loader<D> rows(call_, room_);
    rows.ask(now, item_heads(blockIdx.x, heads_));
    rows.store(0);
    __syncthreads();

    int turn = 0;
    for (int work = blockIdx.x; work < works_; work += gridDim.x, turn ^= 1) {
      const decode_split after = split_at(work + 2 * gridDim.x);
      const item_heads heads(work, heads_);
      const bool more = work + static_cast<int>(gridDim.x) < works_;
      if (more) rows.ask(next, item_heads(work + gridDim.x, heads_));
      const column_state<D> state = attend(tiles, now, heads, turn, fused);
      if (more) rows.store(turn ^ 1);
      for (int first = 0; first < heads.own; first += quad) {
        write_room(room_, state, first);
        if (first == 0) {
          settle();
        } else {
          __syncthreads();
        }
        finish(now, heads, first);
        __syncthreads();  // the sums have been read, the records are written
      }
      if (now.splits > 1) stored_ = {now.slot, now.first_slot, now.splits, heads.group, now.row, heads.first, heads.own, now.sequence};
      now = next;
      next = after;
    }
    settle();
    __syncthreads();
    settle();
  }

private:
  __device__ decode_split split_at(int work) const { return work < works_ ? call_.plan.splits[work / heads_.all] : decode_split{}; }

  __device__ column_state<D> attend(tile_stream<D>& tiles, const decode_split& split, const item_heads& heads, int turn, bool fused) {
    const int warp = threadIdx.x >> 5;
    query_columns<D> q;
    q.load(room_.queries[turn]);
    column_state<D> state;
    const int share = tile_stream<D>::share(split.tokens, warp);
    for (int i = 0; i < share; ++i) {
      const int first = (warp + i * warps) * block_tokens;
      const int valid = split.valid - first;
      std::byte* tile = tiles.front();
      if (valid <= block_tokens) {
        const int block = tables_.block_tables[split.first_block + first / block_tokens];
        if (fused) add_newest<D>(tile, room_.newest[turn], call_.kv, call_.kv.tile(block, call_.layer, heads.kv_head), valid - 1);
        clear_values<D>(tile, valid);
#if __CUDA_ARCH__ >= 900
        fence_async_proxy();
#endif
        __syncwarp();
      }
      state.add(tile, q, valid, call_.scale * 1.44269504f);
      tiles.pop();
    }
    state.close();
    return state;
  }

  /// An item's sum over the warps, four heads of it: to its row where it is all of the sequence, else to the workspace.
  __device__ void finish(const decode_split& split, const item_heads& heads, int first) {
    const std::int64_t at = (std::int64_t{split.slot} * heads_.all + heads.group) * columns;
    bf16* out = call_.out + (std::int64_t{split.row} * call_.heads + heads.first) * D;
    for (int i = threadIdx.x; i < min(heads.own - first, quad) * (D / 4); i += threads) {
      const int head = first + i / (D / 4), dim = i % (D / 4) * 4;
      merged all;
      for (int w = 0; w < warps; ++w)
        all.add(room_.states[w][head], *reinterpret_cast<const float4*>(&room_.sums[w][head % quad][dim]));
      if (split.splits == 1) {
        all.store(out + head * D + dim);
      } else {
        float* record = space_.records + (at + head) * (D + 4);
        *reinterpret_cast<float4*>(record + dim) = all.out;
        if (dim == 0) *reinterpret_cast<float2*>(record + D) = {all.maximum, all.sum};
      }
    }
  }

  /// Takes the arrivals of earlier items a step further: what was stored is counted, what was counted is merged if it was
  /// the last. All threads; also makes what they wrote to shared memory visible.
  __device__ void settle() {
    if (threadIdx.x == 0) room_.last = counted_.slot >= 0 && before_ == counted_.splits - 1;
    __syncthreads();
    if (room_.last) merge(counted_);
    counted_ = stored_;
    stored_.slot = -1;
    if (threadIdx.x == 0 && counted_.slot >= 0) {
      __threadfence();
      before_ = atomicAdd(space_.arrivals + counted_.sequence * heads_.all + counted_.group, 1);
    }
  }

  __device__ void merge(const arrival& done) {
    __threadfence();
    if (threadIdx.x == 0) space_.arrivals[done.sequence * heads_.all + done.group] = 0;
    bf16* out = call_.out + (std::int64_t{done.row} * call_.heads + done.first_head) * D;
    for (int i = threadIdx.x; i < done.heads * (D / 4); i += threads) {
      const int head = i / (D / 4), dim = i % (D / 4) * 4;
      merge_splits<D>(space_, heads_.all, done.first_slot, done.group, done.splits, head, dim).store(out + head * D + dim);
    }
  }

  const step_tables& tables_;
  const attention_call& call_;
  const head_groups& heads_;
  const workspace_view& space_;
  decode_room<D>& room_;
  int works_;
  arrival stored_, counted_;
  int before_ = 0;
};

template <int D>
__global__ void __launch_bounds__(threads, 2) decode_rows(step_tables tables, attention_call call, head_groups heads, workspace_view space) {
  extern __shared__ __align__(128) std::byte shared[];
  let_successor_start();
  decode_block<D>(tables, call, heads, space, *reinterpret_cast<decode_room<D>*>(shared)).run();
}

head_groups groups_of(int heads, const kv_layout& kv) {
  const int each = heads / kv.kv_heads;
  const int groups = (each + columns - 1) / columns;
  return {each, groups, groups * kv.kv_heads};
}

std::int64_t arrival_bytes(const head_groups& heads) { return std::int64_t{most_sequences} * heads.all * 4; }

template <int D>
void launch_decode(const attention_call& call, const head_groups& heads, const workspace_view& space, cudaStream_t on) {
  int device = 0, processors = 0;
  static_cast<void>(cudaGetDevice(&device));
  static_cast<void>(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device));
  static_cast<void>(cudaFuncSetAttribute(decode_rows<D>, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(decode_room<D>)));
  const std::int64_t most = std::int64_t{call.tables->sequences} * (call.tables->longest / split_tokens(1) + 1) * heads.all;
  const auto blocks = static_cast<unsigned>(std::min<std::int64_t>(2 * processors, most));
  launch(decode_rows<D>, dim3(blocks), dim3(threads), sizeof(decode_room<D>), on, *call.tables, call, heads, space);
}

}  // namespace

std::int64_t decode_workspace_bytes(std::int64_t splits, std::int32_t heads, const kv_layout& kv) {
  const head_groups groups = groups_of(heads, kv);
  return arrival_bytes(groups) + splits * groups.all * columns * (kv.head_dim + 4) * 4;
}

void attend_decode(const attention_call& call, cudaStream_t on) {
  const head_groups heads = groups_of(call.heads, call.kv);
  const workspace_view space{reinterpret_cast<int*>(call.workspace), reinterpret_cast<float*>(call.workspace + arrival_bytes(heads))};
  if (call.kv.head_dim == 128) return launch_decode<128>(call, heads, space, on);
  launch_decode<64>(call, heads, space, on);
}

}  // namespace troupe::kernels::cuda
