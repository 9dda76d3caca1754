// One block of the kernel that keeps all layers of a step resident: its share of the products, and how it hands results
// to the other blocks. Its weights come by resident_stream.cuh, attention is resident_attention.cuh. Knows no launch.
//
// Every op's tiles of 16 weight rows are dealt to the blocks in turn, from op to op and layer to layer. The warps of a
// block split the columns; each lane copies exactly what it will multiply, in the order of the ops, as far ahead as its
// ring reaches. Results travel as tagged words, a tag a layer: when a word is overwritten a layer later, whoever needed
// it has read it, since the writer's own input came by way of all its readers.
#pragma once

#include "kernels/cuda/resident_attention.cuh"
#include "kernels/cuda/resident_stream.cuh"
#include "kernels/cuda/resident_x.cuh"

namespace troupe::kernels::cuda::resident {

template <class F, int Depth, int D>
constexpr int shared_bytes(int rows, int columns, int layers) {
  using shape = room_shape<F, Depth>;
  return static_cast<int>(sizeof(attention_room_shared<D>)) + shape::ring_bytes + shape::partial_floats(rows) * 4 +
         warps * (rows * shape::x_stride(columns) + shape::sums_floats(columns) * 4) +
         layers * static_cast<int>(sizeof(layer_pointers));
}

template <class F, int Depth, int D>
class block {
public:
  using shape = room_shape<F, Depth>;

  __device__ block(const arguments& a, int columns, std::byte* shared)
      : a_(a), room_(*reinterpret_cast<attention_room_shared<D>*>(shared)), tid_(threadIdx.x), lane_(threadIdx.x & 31),
        warp_(threadIdx.x >> 5), log_together_(log2_together(a.tables.rows)),
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
    for (int i = tid_; i < a_.layers * static_cast<int>(sizeof(layer_pointers) / 8); i += threads)
      reinterpret_cast<unsigned long long*>(pointers_)[i] = from[i];
    __syncthreads();
    weight_stream<F, Depth> weights(a_, pointers_, ring_);
    if (tid_ < attention_warps) barrier_init(&room_.arrived[tid_], 1);
    barrier_init_fence();
    wait_for_predecessor();
    rows_ = min(a_.tables.rows, a_.tables.counts[0]);
    first_tag_ = *reinterpret_cast<const volatile unsigned*>(a_.turns) * most_resident_layers + 1;
    attention_share<D> attention(a_, room_, partial_);
    attention.begin(rows_);
    for (int layer = 0; layer < a_.layers; ++layer) {
      if (layer + 1 == a_.layers) let_successor_start();
      const std::uint32_t tag = first_tag_ + layer;
      product<qkv_op>(weights, layer, tag);
      attention.attend(layer, tag);
      product<output_op>(weights, layer, tag);
      product<gate_op>(weights, layer, tag);
      product<down_op>(weights, layer, tag);
    }
    end_turn();
  }

private:
  /// The last block to end counts the step. Where the tags begin anew, a word that lay untouched since must not pass
  /// for one of theirs: that step leaves zeros, which no tag is.
  __device__ void end_turn() {
    const bool last_turn = first_tag_ / most_resident_layers + 1 == resident_turns;
    if (last_turn) __threadfence();  // no word of this step comes after the zeros
    __syncthreads();
    if (tid_ != 0 || atomicAdd(a_.turns + 1, 1u) + 1 != gridDim.x) return;
    a_.turns[1] = 0;
    if (last_turn) {
      __threadfence();
      for (long i = 0; i < a_.words; ++i) a_.qkv[i] = 0;
    }
    a_.turns[0] = last_turn ? 0 : a_.turns[0] + 1;
  }

  // --- products -----------------------------------------------------------------------------------------------------

  static __device__ float2 floats_of(std::uint32_t two_bf16) {
    return {__uint_as_float(two_bf16 << 16), __uint_as_float(two_bf16 & 0xffff0000u)};
  }
  static constexpr int abreast = F::columns / 64;  ///< pairs of a lane that are there together

  /// A warp brings its columns of one row to its own shared memory, scaled by a power of two into f16's range where the
  /// format wants f16; returns what takes the scale back. A lane has two neighbouring columns of every 64. The code is
  /// kept small: it runs once an op, and instructions that are far come late.
  template <op_index Op>
  __device__ float stage(weight_stream<F, Depth>& weights, int row, int layer, std::uint32_t tag, const warp_run& run,
                         float& squares) {
    constexpr bool normed = Op == qkv_op || Op == gate_op;
    __syncwarp();
    if constexpr (normed) return stage_normed<Op>(weights, row, layer, tag, run, squares);
    else return stage_given<Op>(weights, row, tag, run);
  }

  /// The power of two that brings a warp's largest column into f16's range.
  static __device__ float scale_for(float largest) {
    largest = warp_max(largest);
    const int exponent = (__float_as_int(largest) >> 23) - 127;
    return largest > 0.0f && exponent < 128 ? __int_as_float((127 + min(13 - exponent, 100)) << 23) : 1.0f;
  }

  template <op_index Op>
  __device__ float stage_normed(weight_stream<F, Depth>& weights, int row, int layer, std::uint32_t tag,
                                const warp_run& run, float& squares) {
    const op_shape& op = a_.ops[Op];
    const int columns = run.count * F::columns, first = run.first * F::columns, own = lane_ * 2;
    std::uint8_t* const x = x_ + row * x_stride_;
    const float* const gain = pointers_[layer].gains[Op == gate_op] + first + own;
    const tagged_word* const words =
        (Op == qkv_op ? a_.hidden_words : a_.middle) + static_cast<long>(row) * op.k + first + own;
    const bool plain = Op == qkv_op && layer == 0;
    const std::uint32_t wanted = Op == qkv_op ? tag - 1 : tag;
    float2 v[F::half_x ? most_normed_columns / 64 : 4];  // for f16 of all columns: their largest must be known first
    float largest = 0.0f;
    squares = 0.0f;
#pragma unroll F::half_x ? most_normed_columns / 256 : 1  // v wants constant places
    for (int from = 0; from < most_normed_columns; from += 256) {
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
      float2* const here = v + (F::half_x ? from / 64 : 0);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float a = __uint_as_float(value_of(w[i][0])), b = __uint_as_float(value_of(w[i][1]));
        squares += a * a + b * b;
        here[i] = {a * g[i].x, b * g[i].y};
        largest = fmaxf(largest, fmaxf(fabsf(here[i].x), fabsf(here[i].y)));
      }
      if constexpr (!F::half_x) place_four(here, 1.0f, from, columns, row, x);
    }
    squares = warp_sum(squares);
    if constexpr (!F::half_x) return 1.0f;
    const float scale = scale_for(largest);
#pragma unroll
    for (int from = 0; from < (F::half_x ? most_normed_columns : 0); from += 256)
      place_four(v + from / 64, scale, from, columns, row, x);
    return 1.0f / scale;
  }
  __device__ void place_four(const float2* v, float scale, int from, int columns, int row, std::uint8_t* x) {
#pragma unroll
    for (int i = 0; i < 4; i += abreast) {
      if (from + i * 64 >= columns) break;
      float2 some[abreast];
#pragma unroll
      for (int j = 0; j < abreast; ++j) some[j] = v[i + j];
      place_pairs<F>(some, scale, from + i * 64 + lane_ * 2, row, x, sums_);
    }
  }

  /// For f16 the pairs lie in their places as they came until the largest is known.
  template <op_index Op>
  __device__ float stage_given(weight_stream<F, Depth>& weights, int row, std::uint32_t tag, const warp_run& run) {
    const op_shape& op = a_.ops[Op];
    const int columns = run.count * F::columns, first = run.first * F::columns, own = lane_ * 2;
    std::uint8_t* const x = x_ + row * x_stride_;
    const tagged_word* const words =
        (Op == output_op ? a_.attended : a_.gated) + (static_cast<long>(row) * op.k + first) / 2 + lane_;
    float largest = 0.0f;
#pragma unroll 1
    for (int from = 0; from < columns; from += 512) {
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
      for (int i = 0; i < 8; i += abreast) {
        if (from + i * 64 >= columns) break;
        float2 some[abreast];
#pragma unroll
        for (int j = 0; j < abreast; ++j) {
          some[j] = floats_of(value_of(w[i + j]));
          if constexpr (!F::half_x) continue;
          largest = fmaxf(largest, fmaxf(fabsf(some[j].x), fabsf(some[j].y)));
          *pair_place<F>(x, from + (i + j) * 64 + own) = value_of(w[i + j]);
        }
        if constexpr (!F::half_x) place_pairs<F>(some, 1.0f, from + i * 64 + own, row, x, sums_);
      }
    }
    if constexpr (!F::half_x) return 1.0f;
    const float scale = scale_for(largest);
#pragma unroll 2
    for (int c = own; c < columns; c += 64 * abreast) {
      float2 some[abreast];
#pragma unroll
      for (int j = 0; j < abreast; ++j) some[j] = floats_of(*pair_place<F>(x, c + j * 64));
      place_pairs<F>(some, scale, c, row, x, sums_);
    }
    return 1.0f / scale;
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
        float row_scale = 1.0f;
        if constexpr (F::row_scale)
          row_scale =
              tid_ < (rows_ * 16) << (log_together_ + log_slots) ? scale_of<Op>(op, tid_, log_slots, layer) : 1.0f;
        if constexpr (!normed)
          before = tid_ < (rows_ * 16) << (log_together_ + log_slots) ? residual<Op>(op, tid_, log_slots, layer) : 0;
        float* const mine = partial_ + (turn_ << log_together_) * rows_ * 16 * output_pitch + warp_;
        int count = 0;  // of this warp's tiles
#pragma unroll
        for (int i = 0; i < 4; ++i)
          count +=
              i >> log_together_ == 0 && ((sets_.set + i * static_cast<int>(gridDim.x)) << log_slots) + slot < op.tiles;
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
            if (!at_hand) weights.refill();
          }
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            const int column = 2 * t + (j & 1);
            if (column < rows_)
              mine[((i * rows_ + column) * 16 + g + (j >> 1) * 8) * output_pitch] = acc[j] * back[j & 1];
          }
        }
        __syncthreads();
        finish<Op>(op, log_slots, layer, tag, before, row_scale);
        if (at_hand) weights.owe(count * run.count);
        turn_ ^= 1;
      }
    }
    sets_.leave(op);
  }

  /// Which output is number i of a pass.
  struct output_place {
    int r16, slot, which, row, tile;
    __device__ output_place(int i, int log_slots, int log_together, int set)
        : r16(i & 15), slot((i >> 4) & ((1 << log_slots) - 1)) {
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
    if (Op == output_op && layer == 0)
      return tagged(__float_as_uint(a_.hidden[at.row * a_.hidden_stride + n]), first_tag_ - 1);
    return look((Op == output_op ? a_.hidden_words : a_.middle) + static_cast<long>(at.row) * op.n + n);
  }

  /// The weights' scale for output i; asked for ahead of its use.
  template <op_index Op>
  __device__ float scale_of(const op_shape& op, int i, int log_slots, int layer) {
    const output_place at(i, log_slots, log_together_, sets_.set);
    const int r = Op == gate_op ? at.tile * 8 + (at.r16 & 7) + (at.r16 >> 3) * op.half8 * 8 : at.tile * 16 + at.r16;
    return at.tile < op.tiles && r < op.n ? reinterpret_cast<const float*>(pointers_[layer].scales[Op])[r] : 0.0f;
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
  __device__ void finish(const op_shape& op, int log_slots, int layer, std::uint32_t tag, tagged_word before,
                         float row_scale) {
    constexpr bool normed = Op == qkv_op || Op == gate_op;
    for (int i = tid_; i < (rows_ * 16) << (log_together_ + log_slots); i += threads) {
      const output_place at(i, log_slots, log_together_, sets_.set);
      if (__all_sync(~0u, at.tile >= op.tiles)) continue;
      float sum =
          sum_of(partial_ + ((((turn_ << log_together_) + at.which) * rows_ + at.row) * 16 + at.r16) * output_pitch,
                 at.slot, op.log_parts);
      if constexpr (normed) {
        const float squares = sum_of(room_.squares[Op == gate_op][at.row], at.slot, op.log_parts);
        sum *= rsqrtf(squares / static_cast<float>(op.k) + a_.eps);
      }
      int n = at.tile * 16 + at.r16;
      if (Op == gate_op) n = at.tile * 8 + (at.r16 & 7);
      const int limit = Op == gate_op ? op.half8 * 8 : op.n;
      const bool real = at.tile < op.tiles && n < limit;
      if constexpr (F::row_scale) sum *= i == tid_ ? row_scale : scale_of<Op>(op, i, log_slots, layer);
      if constexpr (Op == gate_op) {
        const float up = __shfl_down_sync(~0u, sum, 8);
        sum = sum / (1.0f + __expf(-sum)) * up;
      }
      if constexpr (normed) {
        const float other = __shfl_down_sync(~0u, sum, 1);
        if (!real || (n & 1) || (Op == gate_op && at.r16 >= 8)) continue;
        publish((Op == qkv_op ? a_.qkv : a_.gated) + (static_cast<long>(at.row) * limit + n) / 2,
                tagged(pack_bf16(sum, other), tag));
      } else {
        if (!real) continue;
        if (i != tid_) before = residual<Op>(op, i, log_slots, layer);
        while (!has_tag(before, Op == output_op ? tag - 1 : tag)) before = residual<Op>(op, i, log_slots, layer);
        sum += __uint_as_float(value_of(before));
        if (Op == down_op && layer + 1 == a_.layers) a_.hidden[at.row * a_.hidden_stride + n] = sum;
        else
          publish((Op == output_op ? a_.middle : a_.hidden_words) + static_cast<long>(at.row) * op.n + n,
                  tagged(__float_as_uint(sum), tag));
      }
    }
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
