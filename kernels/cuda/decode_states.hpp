// What a block of decode attention makes of its tiles: the queries, the softmax of a warp, the newest token, how
// results are merged. Device code only; knows no launch.
#pragma once

#include "kernels/cuda/decode_narrow.hpp"
#include "kernels/cuda/decode_tiles.hpp"
#include "kernels/cuda/rotate.hpp"

namespace troupe::kernels::cuda::decode {

/// Which heads a split is done for.
struct item_heads {
  int group, kv_head, first, own;

  __device__ item_heads(int group, const head_groups& heads)
      : group(group), kv_head(heads.kv_head(group)),
        first(kv_head * heads.heads + (group - kv_head * heads.groups) * columns),
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
    const int of_row =
        kind_ == query ? heads.first + head : call_.heads + (head - columns) * call_.kv.kv_heads + heads.kv_head;
    const auto* from = reinterpret_cast<const chunk*>(
        call_.qkv + (std::int64_t{row} * (call_.heads + 2 * call_.kv.kv_heads) + of_row) * D);
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
__device__ void add_newest(std::byte* tile, const bf16 (&newest)[2][D], const kv_layout& kv, std::byte* arena,
                           int token) {
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
      *reinterpret_cast<uint4*>(tile + block_tokens * D * 2 + kv_layout::chunk_offset(at / (D / 8), at % (D / 8))) =
          uint4{};
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

/// This warp's tiles of a pair; the newest token is added where it is among them.
template <int D, kv_format F>
__device__ column_state<D, F> attend(decode_room<D, F>& room, const step_tables& tables, const attention_call& call,
                                     tile_stream<D, F>& tiles, const work_walk& work, const item_heads& heads,
                                     const query_columns<D, F>& q, int turn) {
  const int warp = threadIdx.x >> 5;
  column_state<D, F> state;
  const int share = work.share(work.tiles(), warp), first = work.tile + work.first_of(warp);
  for (int i = 0; i < share; ++i) {
    const int at = first + i * warps;
    const int valid = work.sequence.length - at * block_tokens;
    std::byte* tile = tiles.front();
    if (valid <= block_tokens) {
      const int block = tables.block_tables[work.sequence.table + at];
      if (call.rope.angles)
        add_newest<D, F>(tile, room.newest[turn], call.kv, call.kv.tile(block, call.layer, heads.kv_head), valid - 1);
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

  /// Parts of which at least one is not empty.
  template <int N>
  __device__ void add(const float2 (&states)[N], const float4 (&parts)[N]) {
    float best = maximum;
#pragma unroll
    for (int i = 0; i < N; ++i) best = fmaxf(best, states[i].x);
    scale(exp2_fast(maximum - best));
    maximum = best;
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float weight = exp2_fast(states[i].x - best);
      sum += states[i].y * weight;
      out.x += parts[i].x * weight;
      out.y += parts[i].y * weight;
      out.z += parts[i].z * weight;
      out.w += parts[i].w * weight;
    }
  }
  __device__ void scale(float by) { sum *= by, out.x *= by, out.y *= by, out.z *= by, out.w *= by; }
  __device__ void store(bf16* to) const {
    const float all = 1.0f / sum;
    *reinterpret_cast<uint2*>(to) = {pack_bf16(out.x * all, out.y * all), pack_bf16(out.z * all, out.w * all)};
  }
};

/// One head's four dims, over the warps.
template <int D, kv_format F>
__device__ merged merge_warps(const decode_room<D, F>& room, int head, int dim) {
  float2 states[warps];
  float4 parts[warps];
#pragma unroll
  for (int w = 0; w < warps; ++w) {
    states[w] = room.states[w][head];
    parts[w] = *reinterpret_cast<const float4*>(&room.sums[w][head % quad][dim]);
  }
  merged all;
  all.add(states, parts);
  return all;
}

/// Adds one head's four dims of results in memory, in their order; `record` says where the head's part of one is.
template <int D, class Record>
__device__ void add_records(merged& all, int records, int dim, Record record) {
  constexpr int batch = 16;
  for (int r = 0; r < records; r += batch) {
    float2 states[batch];
    float4 parts[batch];
#pragma unroll
    for (int i = 0; i < batch; ++i) {
      states[i] = {minus_infinity, 0};
      parts[i] = {};
      if (r + i >= records) continue;
      const float* const at = record(r + i);
      states[i] = __ldcg(reinterpret_cast<const float2*>(at + D));
      parts[i] = __ldcg(reinterpret_cast<const float4*>(at + dim));
    }
    all.add(states, parts);
  }
}

}  // namespace troupe::kernels::cuda::decode
