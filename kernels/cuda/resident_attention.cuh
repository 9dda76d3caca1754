// Attention within the kernel that keeps all layers of a step resident: splits of 128 tokens, which blocks do them, and
// how their parts are merged. Knows no weights; Q, K and V come, and what is attended goes, as tagged words.
#pragma once

#include "kernels/cuda/resident_stream.cuh"

namespace troupe::kernels::cuda::resident {

template <int D>
struct attention_room_shared {
  alignas(128) std::byte tiles[attention_warps][2][decode::block_tokens * D * 2];
  alignas(16) bf16 queries[decode::columns][D + 8];
  alignas(16) bf16 newest[2][D];
  float2 states[attention_warps][decode::columns];
  std::uint64_t arrived[attention_warps];
  alignas(16) float squares[2][most_resident_rows][warps];
  int items_before[most_resident_rows + 1];
  decode_sequence sequences[most_resident_rows];
};

/// What a block does between the products of Q, K and V and those with attention's output.
template <int D>
class attention_share {
public:
  /// `merging`: floats of the block's, most_splits_a_row * (D + 4) of them, which are free while it attends.
  __device__ attention_share(const arguments& a, attention_room_shared<D>& room, float* merging)
      : a_(a), room_(room), partial_(merging), tid_(threadIdx.x), lane_(threadIdx.x & 31), warp_(threadIdx.x >> 5) {}

  /// A step's items; K and V of the first are asked for. All threads, after the predecessor's end.
  __device__ void begin(int rows) {
    rows_ = rows;
    if (tid_ < rows_) room_.sequences[tid_] = a_.attention.plan.decode->sequences[tid_];
    __syncthreads();
    if (tid_ == 0) {
      int items = 0;
      for (int r = 0; r < rows_; ++r) {
        room_.items_before[r] = items;
        items += splits_of(room_.sequences[r].length) * a_.heads.all;
      }
      room_.items_before[rows_] = items;
    }
    __syncthreads();
    ask_first_item(0);
  }

  /// The block's items, then its share of merging, and what it will need of K and V a layer later.
  __device__ void attend(int layer, std::uint32_t tag) {
    const int all = items();
    for (int i = blockIdx.x; i < all; i += gridDim.x) {
      const item of = item_at(i);
      if (i != static_cast<int>(blockIdx.x)) ask_tile(of, layer);
      attend_item(of, layer, tag);
      fence_async_proxy();
      __syncthreads();
    }
    ask_first_item(layer + 1);
    for (int i = static_cast<int>(gridDim.x) - 1 - static_cast<int>(blockIdx.x); i < rows_ * a_.attention.heads;
         i += gridDim.x)
      merge_splits(i / a_.attention.heads, i % a_.attention.heads, tag);
  }

private:
  /// A split of 128 tokens for one group of query heads.
  struct item {
    int row, group, split, splits;
  };
  __device__ item item_at(int i) const {
    int row = 0;
    while (i >= room_.items_before[row + 1]) ++row;
    const int splits = splits_of(room_.sequences[row].length), at = i - room_.items_before[row];
    return {row, at / splits, at % splits, splits};
  }
  __device__ int items() const { return room_.items_before[rows_]; }
  /// Asks for this warp's K and V of an item.
  __device__ void ask_tile(const item& of, int layer) {
    if (warp_ >= attention_warps || lane_ != 0) return;
    const decode_sequence& s = room_.sequences[of.row];
    const int first = of.split * 128 + warp_ * 16;
    if (first >= s.length) return;
    const kv_layout& kv = a_.attention.kv;
    const std::byte* from =
        kv.tile(a_.tables.block_tables[s.table + first / 16], a_.attention.layer + layer, of.group / a_.heads.groups);
    fence_async_proxy();
    barrier_expect(&room_.arrived[warp_], 2 * sizeof(room_.tiles[0][0]));
    copy_bulk(room_.tiles[warp_][0], from, sizeof(room_.tiles[0][0]), &room_.arrived[warp_]);
    copy_bulk(room_.tiles[warp_][1], from + kv.value_offset(), sizeof(room_.tiles[0][0]), &room_.arrived[warp_]);
  }
  __device__ void ask_first_item(int layer) {
    if (layer < a_.layers && static_cast<int>(blockIdx.x) < items()) ask_tile(item_at(blockIdx.x), layer);
  }

  /// Rotated queries, and K and V of the row's token, to shared memory.
  __device__ void load_heads(const item& of, const decode::item_heads& heads, std::uint32_t tag) {
    constexpr int units = D / 16;
    const int unit = tid_ % units, head = tid_ / units;
    if (head >= decode::columns + 2) return;
    const attention_call& call = a_.attention;
    const bool query = head < decode::columns, newest = !query && of.split + 1 == of.splits;
    const int2 at = chunks_of(unit, call.rope);
    union {
      chunk c[2];
      std::uint32_t words[8];
    } own = {};
    if (query ? head < heads.own : newest) {
      const row_angles angles = head == decode::columns + 1 ? row_angles() : row_angles(call.rope, of.row, unit);
      const int of_row =
          query ? heads.first + head : call.heads + (head - decode::columns) * call.kv.kv_heads + heads.kv_head;
      const tagged_word* from = a_.qkv + (static_cast<long>(of.row) * a_.ops[qkv_op].n + of_row * D) / 2;
      tagged_word low[4], high[4];
      await_words(low, from + at.x * 4, tag);
      await_words(high, from + at.y * 4, tag);
#pragma unroll
      for (int i = 0; i < 4; ++i) own.words[i] = value_of(low[i]), own.words[4 + i] = value_of(high[i]);
      angles.rotate(own.c[0], own.c[1]);
    }
    bf16* const to = query ? room_.queries[head] : room_.newest[head - decode::columns];
    reinterpret_cast<chunk*>(to)[at.x] = own.c[0];
    reinterpret_cast<chunk*>(to)[at.y] = own.c[1];
  }

  __device__ void attend_item(const item& of, int layer, std::uint32_t tag) {
    const decode::item_heads heads(of.group, a_.heads);
    const attention_call& call = a_.attention;
    load_heads(of, heads, tag);
    __syncthreads();
    float* const sums = reinterpret_cast<float*>(
        room_.tiles[warp_ & (attention_warps - 1)][0]);  // [columns][D + 4], where the tile was
    if (warp_ < attention_warps) {
      const decode_sequence& s = room_.sequences[of.row];
      const int first = of.split * 128 + warp_ * 16, valid = s.length - first;
      decode::column_state<D> state;
      if (valid > 0) {
        decode::query_columns<D> q;
        q.load(room_.queries);
        barrier_wait(&room_.arrived[warp_], tiles_used_++ & 1);
        std::byte* const tile = room_.tiles[warp_][0];
        if (valid <= 16) {
          const int block = a_.tables.block_tables[s.table + first / 16];
          decode::add_newest<D>(tile, room_.newest, call.kv, call.kv.tile(block, call.layer + layer, heads.kv_head),
                                valid - 1);
          decode::clear_values<D>(tile, valid);
          __syncwarp();
        }
        state.add(tile, q, valid, call.scale * 1.44269504f);
        state.close();
        __syncwarp();
      }
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const int head = lane_ % 4 * 2 + c;
        if (head >= heads.own) continue;
        if (lane_ < 4) room_.states[warp_][head] = {state.maximum[c], state.sum[c]};
#pragma unroll
        for (int m = 0; m < D / 16; ++m) {
          sums[head * (D + 4) + m * 16 + lane_ / 4] = state.out[m][c];
          sums[head * (D + 4) + m * 16 + 8 + lane_ / 4] = state.out[m][c + 2];
        }
      }
    }
    __syncthreads();
    if (tid_ >= heads.own * (D / 4)) return;
    const int head = tid_ / (D / 4), dim = tid_ % (D / 4) * 4;
    float2 states[attention_warps];
    float4 parts[attention_warps];
    decode::merged all;
#pragma unroll
    for (int w = 0; w < attention_warps; ++w) {
      states[w] = room_.states[w][head];
      parts[w] =
          *reinterpret_cast<const float4*>(reinterpret_cast<const float*>(room_.tiles[w][0]) + head * (D + 4) + dim);
      all.maximum = fmaxf(all.maximum, states[w].x);
    }
#pragma unroll
    for (int w = 0; w < attention_warps; ++w) {
      if (states[w].x == decode::minus_infinity) continue;  // no tokens; what lies there is nothing
      const float weight = exp2_fast(states[w].x - all.maximum);
      all.sum += states[w].y * weight;
      all.out.x += parts[w].x * weight;
      all.out.y += parts[w].y * weight;
      all.out.z += parts[w].z * weight;
      all.out.w += parts[w].w * weight;
    }
    const int query = heads.first + head;
    if (of.splits == 1) return hand_on(all, of.row, query, dim, tag);
    tagged_word* const record = record_of(of.row, query, of.split);
    publish(record + dim, tagged(__float_as_uint(all.out.x), tag));
    publish(record + dim + 1, tagged(__float_as_uint(all.out.y), tag));
    publish(record + dim + 2, tagged(__float_as_uint(all.out.z), tag));
    publish(record + dim + 3, tagged(__float_as_uint(all.out.w), tag));
    if (dim != 0) return;
    publish(record + D, tagged(__float_as_uint(all.maximum), tag));
    publish(record + D + 1, tagged(__float_as_uint(all.sum), tag));
  }
  __device__ void hand_on(const decode::merged& of, int row, int head, int dim, std::uint32_t tag) {
    const float all = 1.0f / of.sum;
    tagged_word* const to = a_.attended + ((static_cast<long>(row) * a_.attention.heads + head) * D + dim) / 2;
    publish(to, tagged(pack_bf16(of.out.x * all, of.out.y * all), tag));
    publish(to + 1, tagged(pack_bf16(of.out.z * all, of.out.w * all), tag));
  }
  __device__ tagged_word* record_of(int row, int head, int split) const {
    return a_.records + ((static_cast<long>(row) * a_.attention.heads + head) * most_splits_a_row + split) * (D + 2);
  }

  /// One head of a row of more than one split.
  __device__ void merge_splits(int row, int head, std::uint32_t tag) {
    const int splits = splits_of(room_.sequences[row].length);
    if (splits == 1) return;
    const int split = tid_ / (D / 4), dim = tid_ % (D / 4) * 4;
    __syncthreads();  // whoever was at partial_ has left it
    float* const here = partial_ + split * (D + 4);
    if (split < splits) {
      const tagged_word* const record = record_of(row, head, split);
      tagged_word out[4], state[2];
      await_words(out, record + dim, tag);
      await_words(state, record + D, tag);
      *reinterpret_cast<uint4*>(here + dim) = {value_of(out[0]), value_of(out[1]), value_of(out[2]), value_of(out[3])};
      if (dim == 0) *reinterpret_cast<uint2*>(here + D) = {value_of(state[0]), value_of(state[1])};
    }
    __syncthreads();
    if (tid_ < D / 4) {
      decode::merged all;
      for (int s = 0; s < splits; ++s)
        all.add({*reinterpret_cast<const float2*>(partial_ + s * (D + 4) + D)},
                {*reinterpret_cast<const float4*>(partial_ + s * (D + 4) + dim)});
      hand_on(all, row, head, dim, tag);
    }
    __syncthreads();
  }

  const arguments& a_;
  attention_room_shared<D>& room_;
  float* const partial_;
  const int tid_, lane_, warp_;
  int rows_ = 0;
  unsigned tiles_used_ = 0;
};

}  // namespace troupe::kernels::cuda::resident
