// What a block of decode attention is made of: the walk over its splits, the warps' streams of KV tiles, the queries, the
// softmax of a warp and how results are merged. Device code only; knows no launch.
#pragma once

#include "kernels/cuda/decode_narrow.hpp"
#include "kernels/cuda/decode_workspace.hpp"
#include "kernels/cuda/rotate.hpp"
#include "kernels/cuda/warp_tiles.hpp"

namespace troupe::kernels::cuda::decode {

constexpr int warps = 4;
constexpr int threads = warps * 32;
constexpr int quad = 4;     ///< heads that are summed over the warps at a time: two blocks must fit a multiprocessor
template <kv_format F>
constexpr int stages_of = F == kv_format::bf16 ? 3 : 6;  ///< tiles that a warp has asked for

template <int D, kv_format F>
struct decode_room {
  static constexpr int stages = stages_of<F>;
  static constexpr int tile_bytes = kv_layout::tile_bytes_of(D, F);
  alignas(128) std::byte tiles[warps][stages][2][tile_bytes];
  alignas(16) bf16 queries[2][columns][D + 8];  // of this item and the next; rows 16 bytes apart in the banks
  alignas(16) bf16 newest[2][2][D];             // K and V of a sequence's last token, where the item ends with it
  float sums[warps][quad][D + 4];
  float2 states[warps][columns];
  std::uint64_t arrived[warps][stages];
  int last;
};

/// One split after the other: the sequence behind the current one is asked for when that begins.
struct work_walk {
  const decode_plan* plan;
  int groups;
  bool narrow;      ///< of split_tokens
  decode_start at;  ///< works: how many are left
  int step = 1;     ///< from split to split of the same heads
  decode_sequence sequence, ahead;

  /// A block's stretch of the plan.
  __device__ work_walk(const decode_plan* plan, int groups, bool narrow) : plan(plan), groups(groups), narrow(narrow), at(plan->starts[blockIdx.x]) {
    if (at.works == 0) return;
    sequence = plan->sequences[at.sequence];
    look_ahead();
  }
  /// Every `step`th split of one sequence and group.
  __device__ work_walk(const decode_plan* plan, int groups, int pair, int first, int step)
      : plan(plan), groups(groups), narrow(false), at{pair / groups, pair % groups, first, 0}, step(step), sequence(plan->sequences[pair / groups]) {
    at.works = max(0, (splits() - first + step - 1) / step);
  }
  __device__ bool ended() const { return at.works == 0; }
  __device__ int splits() const { return split_count(sequence.length, narrow); }
  __device__ int first() const { return at.split << split_shift(sequence.length, narrow); }
  __device__ int tokens() const { return min(split_tokens(sequence.length, narrow), sequence.length - first()); }
  /// Turns to the next split; true where it is of other heads or another sequence, or there is none.
  __device__ bool advance() {
    --at.works;
    if ((at.split += step) < splits()) return at.works == 0;
    if (step > 1) return true;
    at.split = 0;
    if (++at.group == groups) {
      at.group = 0;
      ++at.sequence;
      sequence = ahead;
      look_ahead();
    }
    return true;
  }

private:
  __device__ void look_ahead() { ahead = plan->sequences[min(at.sequence + 1, most_decode_sequences - 1)]; }
};

/// The tiles of one warp, in the order of its splits, up to `stages` ahead of their use.
template <int D, kv_format F>
class tile_stream {
public:
  static constexpr int stages = stages_of<F>;
  static constexpr int tile_bytes = kv_layout::tile_bytes_of(D, F);

  __device__ tile_stream(const step_tables& tables, const attention_call& call, const head_groups& heads, decode_room<D, F>& room, const work_walk& work)
      : tables_(tables), heads_(heads), room_(room), layer_(call.kv.tile(0, call.layer, 0)), block_bytes_(call.kv.block_bytes()), value_offset_(call.kv.value_offset()),
        lane_(threadIdx.x & 31), warp_(threadIdx.x >> 5), ahead_(work) {
#if __CUDA_ARCH__ >= 900
    if (lane_ < stages) barrier_init(&room_.arrived[warp_][lane_], 1);
    barrier_init_fence();
    __syncwarp();
#endif
    ask_blocks();
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
  /// How many tiles of a split are this warp's.
  __device__ static int share(int tokens, int warp) { return ((tokens + block_tokens - 1) / block_tokens - warp + warps - 1) / warps; }

private:
  __device__ void ask_blocks() {
    if (ahead_.ended()) return;
    const int at = warp_ + lane_ * warps;
    if (at * block_tokens < ahead_.tokens()) ahead_blocks_ = tables_.block_tables[ahead_.sequence.table + ahead_.first() / block_tokens + at];
  }
  /// Turns to the next split in which this warp has tiles, and asks for the blocks of the one behind it.
  __device__ void enter() {
    for (left_ = 0; left_ <= 0 && !ahead_.ended();) {
      left_ = share(ahead_.tokens(), warp_);
      blocks_ = ahead_blocks_;
      kv_head_ = heads_.kv_head(ahead_.at.group);
      ahead_.advance();
      ask_blocks();
    }
    next_ = 0;
  }
  __device__ void fetch() {
    if (left_ > 0) {
      const int block = __shfl_sync(~0u, blocks_, next_);
      const std::byte* from = layer_ + block * block_bytes_ + kv_head_ * tile_bytes;
      auto* to = room_.tiles[warp_][fetched_ % stages];
#if __CUDA_ARCH__ >= 900
      if (lane_ == 0) {
        std::uint64_t* barrier = &room_.arrived[warp_][fetched_ % stages];
        barrier_expect(barrier, 2 * tile_bytes);
        copy_bulk(to[0], from, tile_bytes, barrier);
        copy_bulk(to[1], from + value_offset_, tile_bytes, barrier);
      }
#else
      for (int at = lane_ * 16; at < tile_bytes; at += 512) {
        copy_16(to[0] + at, from + at);
        copy_16(to[1] + at, from + value_offset_ + at);
      }
#endif
      ++fetched_;
      ++next_;
      if (--left_ <= 0) enter();
    }
#if __CUDA_ARCH__ < 900
    copies_commit();
#endif
  }

  const step_tables& tables_;
  const head_groups& heads_;
  decode_room<D, F>& room_;
  const std::byte* layer_;  // of the arena's first block
  std::int64_t block_bytes_;
  int value_offset_;
  int lane_, warp_;
  work_walk ahead_;
  int ahead_blocks_ = 0, blocks_ = 0;
  int kv_head_ = 0, left_ = 0, next_ = 0;
  unsigned fetched_ = 0, used_ = 0;
};

/// Which heads a split is done for.
struct item_heads {
  int group, kv_head, first, own;

  __device__ item_heads(int group, const head_groups& heads)
      : group(group), kv_head(heads.kv_head(group)), first(kv_head * heads.heads + (group - kv_head * heads.groups) * columns),
        own(min(columns, (kv_head + 1) * heads.heads - first)) {}
};

/// Brings the queries of a row's heads to shared memory, rotated, and K and V of its token: asked for while the heads
/// before are at work, stored when they are done. A thread has 16 numbers of one head.
template <int D, kv_format F>
class row_loader {
public:
  __device__ row_loader(const attention_call& call, decode_room<D, F>& room) : call_(call), room_(room) {}

  __device__ void ask(int row, const item_heads& heads) {
    constexpr int units = D / 16;
    const int unit = threadIdx.x % units, head = threadIdx.x / units;
    kind_ = head < heads.own ? query : head >= columns && head < columns + 2 && call_.rope.angles ? newest : nothing;
    at_ = chunks_of(unit, call_.rope);
    if (kind_ == nothing) return;
    const int of_row = kind_ == query ? heads.first + head : call_.heads + (head - columns) * call_.kv.kv_heads + heads.kv_head;
    const auto* from = reinterpret_cast<const chunk*>(call_.qkv + (std::int64_t{row} * (call_.heads + 2 * call_.kv.kv_heads) + of_row) * D);
    low_ = from[at_.x];
    high_ = from[at_.y];
    angles_ = head == columns + 1 ? row_angles() : row_angles(call_.rope, row, unit);  // V does not turn
  }

  __device__ void store(int turn) {
    constexpr int units = D / 16;
    const int head = threadIdx.x / units;
    if (kind_ == nothing) {
      if (head < columns) put(room_.queries[turn][head], chunk{}, chunk{});
      return;
    }
    angles_.rotate(low_, high_);
    if (F != kv_format::bf16 && call_.rope.angles && head != columns + 1) turn_head(low_, high_, units);
    put(kind_ == query ? room_.queries[turn][head] : room_.newest[turn][head - columns], low_, high_);
  }

private:
  enum role { nothing, query, newest };
  __device__ void put(bf16* to, const chunk& low, const chunk& high) const {
    reinterpret_cast<chunk*>(to)[at_.x] = low;
    reinterpret_cast<chunk*>(to)[at_.y] = high;
  }

  const attention_call& call_;
  decode_room<D, F>& room_;
  role kind_ = nothing;
  int2 at_{};
  chunk low_, high_;
  row_angles angles_;
};

/// The queries of a group as the B operand of K . Q^T: registers 2 s and 2 s + 1 hold dims 16 s ... of head lane / 4.
/// f16 where K is narrow.
template <int D, kv_format F = kv_format::bf16>
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
    if constexpr (F != kv_format::bf16)
      for (auto& pair : pairs) {
        const float2 two = unpack_bf16(pair);
        pair = pack_f16(two.x, two.y);
      }
  }
};

/// What a warp knows of its tiles so far: for columns 2 (lane % 4) and the one after it, in powers of two.
template <int D, kv_format F = kv_format::bf16>
struct column_state {
  float maximum[2] = {minus_infinity, minus_infinity};
  float sum[2] = {};  ///< of this lane's keys
  float out[D / 16][4] = {};
  float unit = 0, inverse_unit = 0;  ///< narrow: the largest scale of values so far; `out` is in units of it

  /// One tile: the first `valid` of its tokens count.
  __device__ void add(const std::byte* tile, const query_columns<D, F>& q, int valid, float scale) {
    if constexpr (F == kv_format::bf16) add_wide(tile, q, valid, scale);
    else add_narrow<D, F>(*this, tile, q.pairs, valid, scale);
  }
  /// The lanes' sums to the warp's.
  __device__ void close() {
    for (float& own : sum)
      for (int step = 4; step < 32; step *= 2) own += __shfl_xor_sync(~0u, own, step);
    if constexpr (F != kv_format::bf16)
      for (auto& o : out)
        for (float& x : o) x *= unit;
  }
  /// Scores to weights under the largest so far; what was summed before counts `shrink` times.
  __device__ void soften(float (&score)[4], float (&shrink)[2]) {
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
  }
  __device__ void shrink_out(const float (&shrink)[2]) {
    if (__any_sync(~0u, shrink[0] != 1.0f || shrink[1] != 1.0f))
      for (auto& o : out)
        for (int i = 0; i < 4; ++i) o[i] *= shrink[i & 1];
  }

private:
  __device__ void add_wide(const std::byte* tile, const query_columns<D, F>& q, int valid, float scale) {
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
    soften(score, shrink);
    shrink_out(shrink);
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

/// The sequence's newest token, from shared memory to its place in the tile and in the arena.
template <int D, kv_format F = kv_format::bf16>
__device__ void add_newest(std::byte* tile, const bf16 (&newest)[2][D], const kv_layout& kv, std::byte* arena, int token) {
  if constexpr (F != kv_format::bf16) {
    add_newest_narrow<D, F>(tile, newest, kv, arena, token);
  } else {
    const int lane = threadIdx.x & 31;
    if (lane >= D / 4) return;
    const int value = lane / (D / 8), at = lane % (D / 8);
    const chunk c = reinterpret_cast<const chunk*>(newest[value])[at];
    const int to = kv_layout::chunk_offset(token, at);
    *reinterpret_cast<chunk*>(tile + value * (block_tokens * D * 2) + to) = c;
    *reinterpret_cast<chunk*>(arena + value * kv.value_offset() + to) = c;
  }
}

/// What lies behind the newest token may be anything, and 0 * NaN is NaN.
template <int D, kv_format F = kv_format::bf16>
__device__ void clear_values(std::byte* tile, int valid) {
  if constexpr (F != kv_format::bf16) {
    clear_narrow<D, F>(tile, valid);
  } else {
    for (int at = valid * (D / 8) + (threadIdx.x & 31); at < block_tokens * (D / 8); at += 32)
      *reinterpret_cast<uint4*>(tile + block_tokens * D * 2 + kv_layout::chunk_offset(at / (D / 8), at % (D / 8))) = uint4{};
  }
}

/// Heads first ... first + 3 of the warp's state.
template <int D, kv_format F>
__device__ void write_room(decode_room<D, F>& room, const column_state<D, F>& state, int first) {
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

/// This warp's tiles of a split; the newest token is added where it is the split's.
template <int D, kv_format F>
__device__ column_state<D, F> attend(decode_room<D, F>& room, const step_tables& tables, const attention_call& call, tile_stream<D, F>& tiles, const work_walk& work, const item_heads& heads, const query_columns<D, F>& q, int turn) {
  const int warp = threadIdx.x >> 5;
  column_state<D, F> state;
  const int share = tile_stream<D, F>::share(work.tokens(), warp);
  for (int i = 0; i < share; ++i) {
    const int first = work.first() + (warp + i * warps) * block_tokens;
    const int valid = work.sequence.length - first;
    std::byte* tile = tiles.front();
    if (valid <= block_tokens) {
      const int block = tables.block_tables[work.sequence.table + first / block_tokens];
      if (call.rope.angles) add_newest<D, F>(tile, room.newest[turn], call.kv, call.kv.tile(block, call.layer, heads.kv_head), valid - 1);
      clear_values<D, F>(tile, valid);
#if __CUDA_ARCH__ >= 900
      fence_async_proxy();
#endif
      __syncwarp();
    }
    state.add(tile, q, valid, call.scale * 1.44269504f);
    tiles.pop();
  }
  state.close();
  return state;
}

/// Four dims of one head, summed under one maximum.
struct merged {
  float maximum = minus_infinity;
  float sum = 0;
  float4 out = {};

  __device__ void add(float2 state, float4 part) {
    if (state.x == minus_infinity) return;
    const float best = fmaxf(maximum, state.x);
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

/// One head's four dims of a split, over the warps.
template <int D, kv_format F>
__device__ merged merge_warps(const decode_room<D, F>& room, int head, int dim) {
  merged all;
  for (int w = 0; w < warps; ++w) all.add(room.states[w][head], *reinterpret_cast<const float4*>(&room.sums[w][head % quad][dim]));
  return all;
}

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

}  // namespace troupe::kernels::cuda::decode
