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
  float sums[warps][columns][D + 4];
  float2 states[warps][columns];
  std::uint64_t arrived[warps][stages];
  int last;
};

/// Tokens [first, first + tokens) of a sequence.
struct stretch {
  int sequence, first, tokens, length, slot;
  __device__ int blocks_of(int warp) const { return ((tokens + block_tokens - 1) / block_tokens - warp + warps - 1) / warps; }
};

__device__ stretch stretch_of(const decode_split& split) {
  return {split.sequence, split.first_token, min(split_tokens(split.length), split.length - split.first_token), split.length, split.slot};
}

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
    ahead_ = split_at(blockIdx.x);
    enter(blockIdx.x);
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

private:
  __device__ decode_split split_at(int work) const {
    return work < works_ ? call_.plan.splits[work / heads_.all] : decode_split{};
  }
  /// Turns to the first item from `work` on in which this warp has tiles; `ahead_` is its split. Loads what the one
  /// after it needs.
  __device__ void enter(int work) {
    for (; work < works_; work += gridDim.x) {
      const stretch part = stretch_of(ahead_);
      ahead_ = split_at(work + gridDim.x);
      left_ = part.blocks_of(warp_);
      if (left_ <= 0) continue;
      next_ = 0;
      group_ = work % heads_.all;
      const int* table = tables_.block_tables + std::int64_t{part.sequence} * tables_.table_stride + part.first / block_tokens;
      blocks_ = lane_ < left_ ? table[warp_ + lane_ * warps] : 0;
      break;
    }
    work_ = work;
  }
  __device__ void fetch() {
    if (work_ < works_) {
      const int block = __shfl_sync(~0u, blocks_, next_);
      const std::byte* from = call_.kv.tile(block, call_.layer, group_ / heads_.groups);
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
      if (--left_ == 0) enter(work_ + gridDim.x);
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
  decode_split ahead_;
  int work_ = 0, group_ = 0, left_ = 0, next_ = 0, blocks_ = 0;
  unsigned fetched_ = 0, used_ = 0;
};

/// The queries of a group as the B operand of K . Q^T: register 2 * s + h holds dims 16 s + 8 h + 2 (lane % 4) and the
/// one after it, of head lane / 4.
template <int D>
struct query_columns {
  std::uint32_t pairs[D / 8];

  __device__ void load(const bf16* head, const rotation& rope, const float2* angles) {
    const int lane = threadIdx.x & 31;
    for (int c = 0; c < D / 8; ++c) pairs[c] = head ? *reinterpret_cast<const std::uint32_t*>(head + c * 8 + lane % 4 * 2) : 0;
    if (!rope.angles) return;
    if (rope.interleaved) {
#pragma unroll
      for (int c = 0; c < D / 8; ++c) {
        if (c * 8 >= rope.dims) break;
        float2 v = unpack_bf16(pairs[c]);
        rotate(v.x, v.y, angles[c * 4 + lane % 4]);
        pairs[c] = pack_bf16(v.x, v.y);
      }
      return;
    }
#pragma unroll
    for (int c = 0; c < D / 16; ++c) {
      float2 low = unpack_bf16(pairs[c]);
      float2 high = unpack_bf16(pairs[c + D / 16]);
      rotate(low.x, high.x, angles[c * 8 + lane % 4 * 2]);
      rotate(low.y, high.y, angles[c * 8 + lane % 4 * 2 + 1]);
      pairs[c] = pack_bf16(low.x, low.y);
      pairs[c + D / 16] = pack_bf16(high.x, high.y);
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
};

/// The sequence's newest token: its K and V go from the row to the tile in shared memory and to the arena.
template <int D>
__device__ void add_newest(std::byte* tile, const attention_call& call, const bf16* row, const float2* angles, std::byte* arena, int kv_head, int token) {
  const int lane = threadIdx.x & 31;
  if (lane >= D / 8) return;
  const bool value = lane >= D / 16;
  const int unit = lane % (D / 16);
  const int2 at = chunks_of(unit, call.rope);
  const auto* from = reinterpret_cast<const chunk*>(row + (call.heads + (value ? call.kv.kv_heads : 0) + kv_head) * D);
  chunk a = from[at.x], b = from[at.y];
  if (!value && unit < call.rope.dims / 16) rotate_chunks(a, b, at, call.rope, angles);
  const int first = kv_layout::chunk_offset(token, at.x), second = kv_layout::chunk_offset(token, at.y);
  std::byte* in_tile = tile + (value ? block_tokens * D * 2 : 0);
  std::byte* in_arena = arena + (value ? call.kv.value_offset() : 0);
  *reinterpret_cast<chunk*>(in_tile + first) = a;
  *reinterpret_cast<chunk*>(in_tile + second) = b;
  *reinterpret_cast<chunk*>(in_arena + first) = a;
  *reinterpret_cast<chunk*>(in_arena + second) = b;
}

/// What lies behind the newest token may be anything, and 0 * NaN is NaN.
template <int D>
__device__ void clear_values(std::byte* tile, int valid) {
  for (int at = valid * (D / 8) + (threadIdx.x & 31); at < block_tokens * (D / 8); at += 32)
    *reinterpret_cast<uint4*>(tile + block_tokens * D * 2 + kv_layout::chunk_offset(at / (D / 8), at % (D / 8))) = uint4{};
}

template <int D>
__device__ void write_room(decode_room<D>& room, column_state<D>& state, int heads) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  for (int c = 0; c < 2; ++c) {
    for (int step = 4; step < 32; step *= 2) state.sum[c] += __shfl_xor_sync(~0u, state.sum[c], step);
    const int head = lane % 4 * 2 + c;
    if (head >= heads) continue;
    if (lane < 4) room.states[warp][head] = {state.maximum[c], state.sum[c]};
    for (int m = 0; m < D / 16; ++m) {
      room.sums[warp][head][m * 16 + lane / 4] = state.out[m][c];
      room.sums[warp][head][m * 16 + 8 + lane / 4] = state.out[m][c + 2];
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

template <int D>
__global__ void __launch_bounds__(threads, 2) decode_rows(step_tables tables, attention_call call, head_groups heads, workspace_view space) {
  extern __shared__ __align__(128) std::byte shared[];
  auto& room = *reinterpret_cast<decode_room<D>*>(shared);
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  let_successor_start();
  const bool fused = call.rope.angles != nullptr;
  if (!fused) wait_for_predecessor();
  const int works = call.plan.counts[0] * heads.all;
  tile_stream<D> tiles(tables, call, heads, room, works);
  if (fused) wait_for_predecessor();

  for (int work = blockIdx.x; work < works; work += gridDim.x) {
    const stretch part = stretch_of(call.plan.splits[work / heads.all]);
    const int group = work % heads.all;
    const int kv_head = group / heads.groups;
    const int first_head = kv_head * heads.heads + group % heads.groups * columns;
    const int own_heads = min(columns, (kv_head + 1) * heads.heads - first_head);
    const int row = tables.first_row[part.sequence];
    const bf16* qkv = call.qkv + std::int64_t{row} * (call.heads + 2 * call.kv.kv_heads) * D;
    const float2* angles = call.rope.angles + std::int64_t{row} * (call.rope.dims / 2);

    query_columns<D> q;
    q.load(lane / 4 < own_heads ? qkv + (first_head + lane / 4) * D : nullptr, call.rope, angles);
    column_state<D> state;
    for (int i = 0; i < part.blocks_of(warp); ++i) {
      const int first = (warp + i * warps) * block_tokens;
      const int valid = part.length - part.first - first;
      std::byte* tile = tiles.front();
      if (valid <= block_tokens) {
        const int position = part.length - 1;
        const int block = tables.block_tables[std::int64_t{part.sequence} * tables.table_stride + position / block_tokens];
        if (fused) add_newest<D>(tile, call, qkv, angles, call.kv.tile(block, call.layer, kv_head), kv_head, position % block_tokens);
        clear_values<D>(tile, valid);
#if __CUDA_ARCH__ >= 900
        fence_async_proxy();
#endif
        __syncwarp();
      }
      state.add(tile, q, valid, call.scale * 1.44269504f);
      tiles.pop();
    }

    __syncthreads();  // the item before has been read
    write_room(room, state, own_heads);
    __syncthreads();
    const int splits = split_count(part.length);
    const std::int64_t at = (std::int64_t{part.slot} * heads.all + group) * columns;
    bf16* out = call.out + (std::int64_t{row} * call.heads + first_head) * D;
    for (int i = threadIdx.x; i < own_heads * (D / 4); i += threads) {
      const int head = i / (D / 4), dim = i % (D / 4) * 4;
      merged all;
      for (int w = 0; w < warps; ++w)
        all.add(room.states[w][head], *reinterpret_cast<const float4*>(&room.sums[w][head][dim]));
      if (splits == 1) {
        all.store(out + head * D + dim);
      } else {
        float* record = space.records + (at + head) * (D + 4);
        *reinterpret_cast<float4*>(record + dim) = all.out;
        if (dim == 0) *reinterpret_cast<float2*>(record + D) = {all.maximum, all.sum};
      }
    }
    if (splits == 1) continue;
    __threadfence();
    __syncthreads();
    int* arrivals = space.arrivals + part.sequence * heads.all + group;
    if (threadIdx.x == 0) room.last = atomicAdd(arrivals, 1) == splits - 1;
    __syncthreads();
    if (!room.last) continue;
    __threadfence();
    if (threadIdx.x == 0) *arrivals = 0;
    const int first_slot = part.slot - part.first / split_tokens(part.length);
    for (int i = threadIdx.x; i < own_heads * (D / 4); i += threads) {
      const int head = i / (D / 4), dim = i % (D / 4) * 4;
      merge_splits<D>(space, heads.all, first_slot, group, splits, head, dim).store(out + head * D + dim);
    }
  }
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
  const std::int64_t most = std::int64_t{call.tables->sequences} * split_count(call.tables->longest) * heads.all * 2;
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
