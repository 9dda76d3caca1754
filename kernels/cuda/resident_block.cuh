// One block of the kernel that keeps all layers of a step resident: its share of the products and of attention, and how it
// hands results to the other blocks. Its weights come by resident_stream.cuh. Knows no launch.
//
// Every op's tiles of 16 weight rows are dealt to the blocks in turn, from op to op and layer to layer. The warps of a block
// split the columns; each lane copies exactly what it will multiply, in the order of the ops, as far ahead as its ring
// reaches. Results travel as tagged words, a tag a layer: when a word is overwritten a layer later, whoever needed it has
// read it, since the writer's own input came by way of all its readers.
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

template <class F, int Depth, int D>
constexpr int shared_bytes(int rows, int columns, int layers) {
  using shape = room_shape<F, Depth>;
  return static_cast<int>(sizeof(attention_room_shared<D>)) + shape::ring_bytes + shape::partial_floats(rows) * 4 +
         warps * (rows * shape::x_stride(columns) + shape::sums_floats(columns) * 4) + layers * static_cast<int>(sizeof(layer_pointers));
}

/// Writes columns c and c + 1 of the warp's own (a whole warp together, 64 or more columns) as the format's products want
/// them; what place_x of the few-rows kernel does for eight.
template <class F>
__device__ void place_pair(float a, float b, float scale, int c, int row, std::uint8_t* x, float* sums) {
  if constexpr (F::byte_x) {
    float largest = fmaxf(fabsf(a), fabsf(b)), nan = (a + b) * 0.0f;
#pragma unroll
    for (int o = 1; o <= 8; o *= 2) {
      largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, o));
      nan += __shfl_xor_sync(~0u, nan, o);
    }
    const float inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
    std::uint8_t* const to = x + (c & ~31) + (c >> 4 & 1) * 4 + (c >> 3 & 1) + (c >> 1 & 3) * 8;
    to[0] = static_cast<std::uint8_t>(__float2int_rn(a * inverse));
    to[2] = static_cast<std::uint8_t>(__float2int_rn(b * inverse));
    if ((c & 31) == 0) sums[c / 32 * 8 + row] = largest / (127.0f * 16.0f) + nan;
  } else if constexpr (!F::fragment_order) {
    *reinterpret_cast<unsigned*>(x + c * 2) = pack_two<F::half_x>(a * scale, b * scale);
  } else {
    const bool upper = c & 16;
    const float factor = upper ? scale * F::upper_x : scale;
    const unsigned two = pack_two<true>(a * factor, b * factor);
    *reinterpret_cast<unsigned*>(x + (c & ~31) * 2 + (c >> 3 & 3) * 4 + (c >> 1 & 3) * 16) = two;
    if constexpr (F::sums > 0) {
      static_assert(F::sums == 1);
      const float2 rounded = __half22float2(*reinterpret_cast<const __half2*>(&two));
      float start = -(upper ? F::upper_offset : F::offset) * (rounded.x + rounded.y);
#pragma unroll
      for (int o = 1; o <= 8; o *= 2) start += __shfl_xor_sync(~0u, start, o);
      if ((c & 31) == 0) sums[c / 32 * 8 + row] = start;
    }
  }
}

template <class F, int Depth, int D>
class block {
public:
  using shape = room_shape<F, Depth>;

  __device__ block(const arguments& a, int columns, std::byte* shared)
      : a_(a), room_(*reinterpret_cast<attention_room_shared<D>*>(shared)), tid_(threadIdx.x), lane_(threadIdx.x & 31), warp_(threadIdx.x >> 5),
        log_together_(log2_together(a.tables.rows)),
        ring_(reinterpret_cast<char*>(shared) + sizeof(attention_room_shared<D>)),
        partial_(reinterpret_cast<float*>(ring_ + shape::ring_bytes)), x_stride_(shape::x_stride(columns)) {
    auto* const x = reinterpret_cast<std::uint8_t*>(partial_ + shape::partial_floats(a.tables.rows));
    x_ = x + warp_ * a.tables.rows * x_stride_;
    auto* const sums = reinterpret_cast<float*>(x + warps * a.tables.rows * x_stride_);
    sums_ = sums + warp_ * shape::sums_floats(columns);
    pointers_ = reinterpret_cast<layer_pointers*>(sums + warps * shape::sums_floats(columns));
  }

  __device__ void run() {
    const auto* from = reinterpret_cast<const unsigned long long*>(a_.pointers);
    for (int i = tid_; i < a_.layers * static_cast<int>(sizeof(layer_pointers) / 8); i += threads) reinterpret_cast<unsigned long long*>(pointers_)[i] = from[i];
    __syncthreads();
    weight_stream<F, Depth> weights(a_, pointers_, ring_);
    if (tid_ < attention_warps) barrier_init(&room_.arrived[tid_], 1);
    barrier_init_fence();
    wait_for_predecessor();
    if (tid_ < most_resident_rows && tid_ < a_.attention.plan.counts[0]) room_.sequences[tid_] = a_.attention.plan.decode->sequences[tid_];
    rows_ = min(a_.tables.rows, a_.tables.counts[0]);
    first_tag_ = *reinterpret_cast<const volatile unsigned*>(a_.turns) * most_resident_layers + 1;
    __syncthreads();
    if (tid_ == 0) {
      int items = 0;
      for (int r = 0; r < rows_; ++r) {
        room_.items_before[r] = items;
        items += split_count(room_.sequences[r].length) * a_.heads.all;
      }
      room_.items_before[rows_] = items;
    }
    __syncthreads();
    ask_first_item(0);
    for (int layer = 0; layer < a_.layers; ++layer) {
      if (layer + 1 == a_.layers) let_successor_start();
      const std::uint32_t tag = first_tag_ + layer;
      product<qkv_op>(weights, layer, tag);
      attend(layer, tag);
      product<output_op>(weights, layer, tag);
      product<gate_op>(weights, layer, tag);
      product<down_op>(weights, layer, tag);
    }
    __syncthreads();
    if (tid_ == 0 && atomicAdd(a_.turns + 1, 1u) + 1 == gridDim.x) {
      a_.turns[1] = 0;
      atomicAdd(a_.turns, 1u);
    }
  }

private:
  // --- products -----------------------------------------------------------------------------------------------------

  /// A warp brings its columns of one row to its own shared memory, scaled by a power of two into f16's range where the
  /// format wants f16; returns what takes the scale back. A lane has two neighbouring columns of every 64.
  template <op_index Op>
  __device__ float stage(weight_stream<F, Depth>& weights, int row, int layer, std::uint32_t tag, const warp_run& run, float& squares) {
    constexpr bool normed = Op == qkv_op || Op == gate_op;
    const op_shape& op = a_.ops[Op];
    const int columns = run.count * F::columns, first = run.first * F::columns, own = lane_ * 2;
    std::uint8_t* const x = x_ + row * x_stride_;
    float2 v[F::half_x ? most_columns / 64 : 1];  // of all columns, where their largest must be known first
    squares = 0.0f;
    __syncwarp();
    const auto keep = [&](int i, float2 two) {
      if constexpr (F::half_x) v[i] = two;
      else place_pair<F>(two.x, two.y, 1.0f, i * 64 + own, row, x, sums_);
    };
    if constexpr (normed) {
      const float* const gain = pointers_[layer].gains[Op == gate_op] + first + own;
      const tagged_word* const words = (Op == qkv_op ? a_.hidden_words : a_.middle) + static_cast<long>(row) * op.k + first + own;
      const bool plain = Op == qkv_op && layer == 0;
      const std::uint32_t wanted = Op == qkv_op ? tag - 1 : tag;
#pragma unroll F::half_x ? most_columns / 256 : 1  // v wants constant places; else small code
      for (int from = 0; from < most_columns; from += 256) {
        if (from >= columns) break;
        float2 g[4];
        tagged_word w[4][2];
        unsigned missing = 0;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int c = from + i * 64;
          g[i] = {0.0f, 0.0f};
          w[i][0] = w[i][1] = 0;
          if (c + own >= columns || first + c + own >= op.k) continue;
          g[i] = *reinterpret_cast<const float2*>(gain + c);
          if (!plain) {
            missing |= 1u << i;
            continue;
          }
          const float2 two = *reinterpret_cast<const float2*>(a_.hidden + row * a_.hidden_stride + first + own + c);
          w[i][0] = __float_as_uint(two.x);
          w[i][1] = __float_as_uint(two.y);
        }
        while (missing) {
#pragma unroll
          for (int i = 0; i < 4; ++i)
            if (missing >> i & 1) look(w[i][0], w[i][1], words + from + i * 64);
          weights.pay();
#pragma unroll
          for (int i = 0; i < 4; ++i)
            if ((missing >> i & 1) && has_tag(w[i][0], wanted) && has_tag(w[i][1], wanted)) missing &= ~(1u << i);
        }
        __syncwarp();
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          if (from + i * 64 >= columns) break;
          const float a = __uint_as_float(value_of(w[i][0])), b = __uint_as_float(value_of(w[i][1]));
          squares += a * a + b * b;
          keep(from / 64 + i, {a * g[i].x, b * g[i].y});
        }
      }
      squares = warp_sum(squares);
    } else {
      const tagged_word* const words = (Op == output_op ? a_.attended : a_.gated) + (static_cast<long>(row) * op.k + first) / 2 + lane_;
#pragma unroll F::half_x ? most_columns / 512 : 1  // v wants constant places; else small code
      for (int from = 0; from < most_columns; from += 512) {
        if (from >= columns) break;
        tagged_word w[8];
        unsigned missing = 0;
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          w[i] = 0;
          if (from + i * 64 + own < columns && first + from + i * 64 + own < op.k) missing |= 1u << i;
        }
        while (missing) {
#pragma unroll
          for (int i = 0; i < 8; ++i)
            if (missing >> i & 1) w[i] = look(words + from / 2 + i * 32);
          weights.pay();
#pragma unroll
          for (int i = 0; i < 8; ++i)
            if ((missing >> i & 1) && has_tag(w[i], tag)) missing &= ~(1u << i);
        }
        __syncwarp();
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          if (from + i * 64 >= columns) break;
          const std::uint32_t two = value_of(w[i]);
          keep(from / 64 + i, {__uint_as_float(two << 16), __uint_as_float(two & 0xffff0000u)});
        }
      }
    }
    if constexpr (!F::half_x) return 1.0f;
    else {
      float largest = 0.0f;
#pragma unroll
      for (int i = 0; i < most_columns / 64; ++i)
        if (i * 64 < columns) largest = fmaxf(largest, fmaxf(fabsf(v[i].x), fabsf(v[i].y)));
      largest = warp_max(largest);
      const int exponent = (__float_as_int(largest) >> 23) - 127;
      const float scale = largest > 0.0f && exponent < 128 ? __int_as_float((127 + min(13 - exponent, 100)) << 23) : 1.0f;
#pragma unroll
      for (int i = 0; i < most_columns / 64; ++i)
        if (i * 64 < columns) place_pair<F>(v[i].x, v[i].y, scale, i * 64 + own, row, x, sums_);
      return 1.0f / scale;
    }
  }

  template <op_index Op>
  __device__ void product(weight_stream<F, Depth>& weights, int layer, std::uint32_t tag) {
    constexpr bool normed = Op == qkv_op || Op == gate_op;
    const op_shape& op = a_.ops[Op];
    sets_.enter(op);
    if (sets_.set < sets_.sets) {
      const int log_slots = log2_warps - op.log_parts, slot = warp_ >> op.log_parts;
      const warp_run run(op, warp_ & ((1 << op.log_parts) - 1));
      const int g = lane_ >> 2, t = lane_ & 3;
      float back[2] = {};
      for (int row = 0; row < rows_; ++row) {
        float square;
        const float factor = stage<Op>(weights, row, layer, tag, run, square);
        if (normed && lane_ == 0) room_.squares[Op == gate_op][row][warp_] = square;
        if (2 * t == row) back[0] = factor;
        if (2 * t + 1 == row) back[1] = factor;
      }
      __syncwarp();
      const std::uint8_t* const my_x = x_ + min(g, rows_ - 1) * x_stride_ + t * 4 * shape::block_words;
      for (; sets_.set < sets_.sets; sets_.set += gridDim.x << log_together_) {
        weights.pay();
        tagged_word before = 0;
        if constexpr (!normed) before = tid_ < (rows_ * 16) << (log_together_ + log_slots) ? residual<Op>(op, tid_, log_slots, layer) : 0;
        float* const mine = partial_ + (turn_ << log_together_) * rows_ * 16 * output_pitch + warp_;
        int count = 0;  // of this warp's tiles
#pragma unroll
        for (int i = 0; i < 4; ++i) count += i >> log_together_ == 0 && ((sets_.set + i * static_cast<int>(gridDim.x)) << log_slots) + slot < op.tiles;
        // Few groups are there already: use them all, and ask for more when the result is on its way.
        const bool at_hand = count * run.count <= Depth;
        if (at_hand) weights.await_all();
#pragma unroll 1
        for (int i = 0; i < count; ++i) {
          float acc[4] = {};
          for (int u = 0; u < run.count; ++u) {
            uint4 lo[F::quads], hi[F::quads], d_lo = {}, d_hi = {};
            if (!at_hand) weights.await_one();
            weights.read(lo, hi, d_lo, d_hi);
            constexpr int blocks = F::columns / 32;
            unsigned b[blocks * shape::block_words];
#pragma unroll
            for (int j = 0; j < blocks; ++j) {
              const std::uint8_t* const at = my_x + (u * blocks + j) * 16 * shape::block_words;
              if constexpr (F::byte_x) {
                const uint2 two = *reinterpret_cast<const uint2*>(at);
                b[2 * j] = two.x, b[2 * j + 1] = two.y;
              } else {
                const uint4 four = *reinterpret_cast<const uint4*>(at);
                b[4 * j] = four.x, b[4 * j + 1] = four.y, b[4 * j + 2] = four.z, b[4 * j + 3] = four.w;
              }
            }
            F::multiply(acc, lo, hi, d_lo, d_hi, b, sums_ + u * blocks * 8 * F::sums, lane_);
            if (!at_hand) weights.copy_next();
          }
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            const int column = 2 * t + (j & 1);
            if (column < rows_) mine[((i * rows_ + column) * 16 + g + (j >> 1) * 8) * output_pitch] = acc[j] * back[j & 1];
          }
        }
        __syncthreads();
        finish<Op>(op, log_slots, layer, tag, before);
        if (at_hand) weights.owe(count * run.count);
        turn_ ^= 1;
      }
    }
    sets_.leave(op);
  }

  /// Which output is number i of a pass.
  struct output_place {
    int r16, slot, which, row, tile;
    __device__ output_place(int i, int log_slots, int log_together, int set) : r16(i & 15), slot((i >> 4) & ((1 << log_slots) - 1)) {
      const int rest = i >> (4 + log_slots);
      which = rest & ((1 << log_together) - 1);
      row = rest >> log_together;
      tile = ((set + which * static_cast<int>(gridDim.x)) << log_slots) + slot;
    }
  };
  /// Of the residual stream before the op, for output i; asked for ahead of its use.
  template <op_index Op>
  __device__ tagged_word residual(const op_shape& op, int i, int log_slots, int layer) {
    const output_place at(i, log_slots, log_together_, sets_.set);
    const int n = at.tile * 16 + at.r16;
    if (at.tile >= op.tiles || n >= op.n) return 0;
    if (Op == output_op && layer == 0) return tagged(__float_as_uint(a_.hidden[at.row * a_.hidden_stride + n]), first_tag_ - 1);
    return look((Op == output_op ? a_.hidden_words : a_.middle) + static_cast<long>(at.row) * op.n + n);
  }

  /// The sum over the warps of one slot.
  __device__ static float sum_of(const float* from, int slot, int log_parts) {
    float4 four[warps / 4];
#pragma unroll
    for (int q = 0; q < warps / 4; ++q) four[q] = *reinterpret_cast<const float4*>(from + q * 4);
    float sum = 0.0f;
#pragma unroll
    for (int q = 0; q < warps / 4; ++q)
      if (q * 4 >> log_parts == slot) sum += (four[q].x + four[q].y) + (four[q].z + four[q].w);
    return sum;
  }

  /// Adds the warps' sums of a pass and hands them on. A whole warp together.
  template <op_index Op>
  __device__ void finish(const op_shape& op, int log_slots, int layer, std::uint32_t tag, tagged_word before) {
    constexpr bool normed = Op == qkv_op || Op == gate_op;
    for (int i = tid_; i < (rows_ * 16) << (log_together_ + log_slots); i += threads) {
      const output_place at(i, log_slots, log_together_, sets_.set);
      if (__all_sync(~0u, at.tile >= op.tiles)) continue;
      float sum = sum_of(partial_ + ((((turn_ << log_together_) + at.which) * rows_ + at.row) * 16 + at.r16) * output_pitch, at.slot, op.log_parts);
      if constexpr (normed) {
        const float squares = sum_of(room_.squares[Op == gate_op][at.row], at.slot, op.log_parts);
        sum *= rsqrtf(squares / static_cast<float>(op.k) + a_.eps);
      }
      int n = at.tile * 16 + at.r16;
      if (Op == gate_op) n = at.tile * 8 + (at.r16 & 7);
      const int limit = Op == gate_op ? op.half8 * 8 : op.n;
      const bool real = at.tile < op.tiles && n < limit;
      if (F::row_scale && real)
        sum *= reinterpret_cast<const float*>(pointers_[layer].scales[Op])[Op == gate_op && at.r16 >= 8 ? n + limit : n];
      if constexpr (Op == gate_op) {
        const float up = __shfl_down_sync(~0u, sum, 8);
        sum = sum / (1.0f + __expf(-sum)) * up;
      }
      if constexpr (normed) {
        const float other = __shfl_down_sync(~0u, sum, 1);
        if (!real || (n & 1) || (Op == gate_op && at.r16 >= 8)) continue;
        publish((Op == qkv_op ? a_.qkv : a_.gated) + (static_cast<long>(at.row) * limit + n) / 2, tagged(pack_bf16(sum, other), tag));
      } else {
        if (!real) continue;
        if (i != tid_) before = residual<Op>(op, i, log_slots, layer);
        while (!has_tag(before, Op == output_op ? tag - 1 : tag)) before = residual<Op>(op, i, log_slots, layer);
        sum += __uint_as_float(value_of(before));
        if (Op == down_op && layer + 1 == a_.layers) a_.hidden[at.row * a_.hidden_stride + n] = sum;
        else publish((Op == output_op ? a_.middle : a_.hidden_words) + static_cast<long>(at.row) * op.n + n, tagged(__float_as_uint(sum), tag));
      }
    }
  }

  // --- attention ----------------------------------------------------------------------------------------------------

  /// A split of 128 tokens for one group of query heads.
  struct item {
    int row, group, split, splits;
  };
  __device__ item item_at(int i) const {
    int row = 0;
    while (i >= room_.items_before[row + 1]) ++row;
    const int splits = split_count(room_.sequences[row].length), at = i - room_.items_before[row];
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
    const std::byte* from = kv.tile(a_.tables.block_tables[s.table + first / 16], a_.attention.layer + layer, of.group / a_.heads.groups);
    fence_async_proxy();
    barrier_expect(&room_.arrived[warp_], 2 * sizeof(room_.tiles[0][0]));
    copy_bulk(room_.tiles[warp_][0], from, sizeof(room_.tiles[0][0]), &room_.arrived[warp_]);
    copy_bulk(room_.tiles[warp_][1], from + kv.value_offset(), sizeof(room_.tiles[0][0]), &room_.arrived[warp_]);
  }
  __device__ void ask_first_item(int layer) {
    if (layer < a_.layers && static_cast<int>(blockIdx.x) < items()) ask_tile(item_at(blockIdx.x), layer);
  }

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
    for (int i = static_cast<int>(gridDim.x) - 1 - static_cast<int>(blockIdx.x); i < rows_ * a_.attention.heads; i += gridDim.x) merge_splits(i / a_.attention.heads, i % a_.attention.heads, tag);
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
      const int of_row = query ? heads.first + head : call.heads + (head - decode::columns) * call.kv.kv_heads + heads.kv_head;
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
    float* const sums = reinterpret_cast<float*>(room_.tiles[warp_ & (attention_warps - 1)][0]);  // [columns][D + 4], where the tile was
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
          decode::add_newest<D>(tile, room_.newest, call.kv, call.kv.tile(block, call.layer + layer, heads.kv_head), valid - 1);
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
      parts[w] = *reinterpret_cast<const float4*>(reinterpret_cast<const float*>(room_.tiles[w][0]) + head * (D + 4) + dim);
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
    const int splits = split_count(room_.sequences[row].length);
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
        all.add(*reinterpret_cast<const float2*>(partial_ + s * (D + 4) + D), *reinterpret_cast<const float4*>(partial_ + s * (D + 4) + dim));
      hand_on(all, row, head, dim, tag);
    }
    __syncthreads();
  }

  const arguments& a_;
  attention_room_shared<D>& room_;
  const int tid_, lane_, warp_, log_together_;
  char* const ring_;
  float* const partial_;
  const int x_stride_;
  std::uint8_t* x_;
  float* sums_;
  layer_pointers* pointers_;
  dealt_sets sets_;
  int rows_ = 0, turn_ = 0;
  unsigned tiles_used_ = 0;
  std::uint32_t first_tag_ = 0;
};

template <class F, int Depth, int D>
__global__ void __launch_bounds__(threads, 1) resident_kernel(const __grid_constant__ arguments a, int columns) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ __align__(128) std::byte shared[];
  block<F, Depth, D>(a, columns, shared).run();
#endif
}

}  // namespace troupe::kernels::cuda::resident
