// The weights that a warp of the resident kernel multiplies, as one stream over all ops and layers: which tiles are
// whose, and the ring that runs ahead of their use. Knows weights only through a format (fragments.cuh); nothing of
// what is computed.
#pragma once

#include "kernels/cuda/decode_states.hpp"
#include "kernels/cuda/resident_layers.hpp"
#include "kernels/cuda/resident_words.cuh"
#include "kernels/cuda/small_products.cuh"

namespace troupe::kernels::cuda::resident {

constexpr int warps = 16, threads = warps * 32;
constexpr int log2_warps = 4;
static_assert(1 << log2_warps == warps);
/// Sets of tiles between two barriers, as far as their sums fit into shared memory.
__host__ __device__ constexpr int log2_together(int rows) { return rows <= 2 ? 2 : 1; }
constexpr int attention_warps = 8;        ///< a split of 128 tokens, 16 each
constexpr int most_columns = 1024;        ///< a warp and op
constexpr int most_normed_columns = 512;  ///< of x that is normed
constexpr int most_splits_a_row = most_resident_tokens / 128;
__device__ inline int splits_of(int tokens) { return (tokens + 127) / 128; }

enum op_index { qkv_op, output_op, gate_op, down_op, op_count };

/// What one of the four products has in common in all layers.
struct op_shape {
  int n;      ///< weight rows
  int half8;  ///< eights of rows from gate to up; else 0
  int tiles;
  int groups;  ///< of F::columns
  int k;
  int log_parts;  ///< of the number of warps that share a tile, 4 or more
  int sets;       ///< of tiles that a block's warps do side by side
  int turn;       ///< sets modulo the number of blocks
  long row_bytes;
};

struct layer_pointers {
  const std::uint8_t* data[op_count];
  const std::uint8_t* scales[op_count];
  const float* gains[2];
};

struct arguments {
  op_shape ops[op_count];
  int layers;
  float eps;
  float* hidden;
  long hidden_stride;
  step_tables tables;
  attention_call attention;
  decode::head_groups heads;
  // Between ops; [T][n] words of one f32, or [T][n / 2] of two bf16.
  tagged_word *qkv, *attended, *middle, *gated, *hidden_words, *records;
  long words;       ///< from qkv to the workspace's end
  unsigned* turns;  ///< steps done, blocks done
  layer_pointers pointers[most_resident_layers];
};

constexpr int output_pitch = warps + 4;  ///< floats between the warps' sums of two outputs: apart in the banks

/// Sizes of what lies in shared memory.
template <class F, int Depth>
struct room_shape {
  static constexpr int group_bytes = 2 * F::quads * threads * 16;
  static constexpr int group_scale_bytes = warps * 16 * F::scale_bytes;
  static constexpr int block_words = F::byte_x ? 2 : 4;
  static constexpr int ring_bytes = Depth * (group_bytes + group_scale_bytes);
  __host__ __device__ static constexpr int x_stride(int columns) { return columns / 32 * 16 * block_words + 64; }
  __host__ __device__ static constexpr int sums_floats(int columns) { return columns / 32 * 8 * F::sums; }
  __host__ __device__ static constexpr int partial_floats(int rows) {
    const int products = (2 << log2_together(rows)) * rows * 16 * output_pitch, merge = most_splits_a_row * (128 + 4);
    return (products > merge ? products : merge) + 3 & ~3;
  }
};

/// Which groups of columns a warp takes of an op.
struct warp_run {
  int first, count;
  __device__ warp_run(const op_shape& op, int part) {
    first = part * op.groups >> op.log_parts;
    count = ((part + 1) * op.groups >> op.log_parts) - first;
  }
};

/// Which sets of tiles a block does of the ops, dealt in turn.
struct dealt_sets {
  int offset = 0;  ///< the block whose turn it is
  int set = 0, sets = 0;
  __device__ void enter(const op_shape& op) {
    sets = op.sets;
    set = static_cast<int>(blockIdx.x) - offset;
    if (set < 0) set += gridDim.x;
  }
  __device__ void leave(const op_shape& op) {
    offset += op.turn;
    if (offset >= static_cast<int>(gridDim.x)) offset -= gridDim.x;
  }
};

/// A warp's weights, in the order of their use, up to Depth groups ahead.
template <class F, int Depth>
class weight_stream {
public:
  using shape = room_shape<F, Depth>;

  __device__ weight_stream(const arguments& a, const layer_pointers* pointers, char* ring)
      : a_(a), pointers_(pointers), ring_(ring), lane_(threadIdx.x & 31), warp_(threadIdx.x >> 5) {
    sets_.enter(a.ops[0]);
    for (int i = 0; i < Depth; ++i) copy_next();
  }

  /// Waits for the oldest group, or for all that are on their way. A whole warp together: lanes copy scales for each
  /// other.
  __device__ void await_one() {
    wait_copies<Depth - 1>();
    if constexpr (F::scale_bytes > 0) __syncwarp();
  }
  __device__ void await_all() {
    wait_copies<0>();
    if constexpr (F::scale_bytes > 0) __syncwarp();
  }
  /// The oldest group. Its room is given to the next after what was read is used.
  __device__ void read(uint4 (&lo)[F::quads], uint4 (&hi)[F::quads], uint4& d_lo, uint4& d_hi) {
    const char* const at = ring_ + used_ * shape::group_bytes + threadIdx.x * 16;
#pragma unroll
    for (int q = 0; q < F::quads; ++q) {
      lo[q] = *reinterpret_cast<const uint4*>(at + q * threads * 16);
      hi[q] = *reinterpret_cast<const uint4*>(at + (F::quads + q) * threads * 16);
    }
    if constexpr (F::scale_bytes > 0) {
      const char* const scales = scales_at(used_) + (lane_ >> 2) * 8;
      const uint2 l = *reinterpret_cast<const uint2*>(scales), h = *reinterpret_cast<const uint2*>(scales + 64);
      d_lo.x = l.x, d_lo.y = l.y, d_hi.x = h.x, d_hi.y = h.y;
    }
    used_ = used_ + 1 == Depth ? 0 : used_ + 1;
  }
  /// Asks for the next group, into the room of one that the whole warp has read.
  __device__ void refill() {
    if constexpr (F::scale_bytes > 0) __syncwarp();
    copy_next();
  }
  /// What is owed is asked for while the warp waits for the op before anyway.
  __device__ void owe(int groups) { owed_ += groups; }
  __device__ void pay() {
    for (; owed_ > 0; --owed_) copy_next();
  }

private:
  /// Turns to the next tile in which this warp has columns.
  __device__ void next_run() {
    const op_shape& op = a_.ops[op_];
    if (sets_.set >= sets_.sets) {
      sets_.leave(op);
      if (++op_ == op_count) op_ = 0, ++layer_;
      sets_.enter(a_.ops[op_]);
      return;
    }
    const int tile = (sets_.set << (log2_warps - op.log_parts)) + (warp_ >> op.log_parts);
    sets_.set += gridDim.x;
    if (tile >= op.tiles) return;
    const warp_run run(op, warp_ & ((1 << op.log_parts) - 1));
    const weight_source w{pointers_[layer_].data[op_], pointers_[layer_].scales[op_], op.row_bytes, op.groups};
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int r8 = op.half8 ? tile + h * op.half8 : tile * 2 + h;
      from_[h] = F::at(w, r8, run.first, lane_);
      if constexpr (F::scale_bytes > 0)
        if ((lane_ >> 2 & 1) == h) scale_from_ = w.scales + unit_at(w, r8, run.first) * 64 + (lane_ & 3) * 16;
    }
    left_ = run.count;
  }

public:
  /// Asks for the next group, into the room of the oldest.
  __device__ void copy_next() {
    while (left_ == 0 && layer_ < a_.layers) next_run();
    if (left_ > 0) {
      --left_;
#pragma unroll
      for (int h = 0; h < 2; ++h) {
#pragma unroll
        for (int q = 0; q < F::quads; ++q)
          copy_16_async(ring_ + to_ * shape::group_bytes + ((h * F::quads + q) * threads + threadIdx.x) * 16,
                        from_[h] + q * F::quad_step);
        from_[h] += F::group_step;
      }
      if constexpr (F::scale_bytes > 0) {
        static_assert(F::scale_bytes == 8);  // of eight rows, 16 bytes each to four lanes
        if (lane_ < 8) copy_16_async(scales_at(to_) + lane_ * 16, scale_from_);
        scale_from_ += 64 * F::scale_bytes;
      }
    }
    to_ = to_ + 1 == Depth ? 0 : to_ + 1;
    commit_copies();
  }

private:
  /// Of this warp's group in a place of the ring: of rows 0 to 7 of the tile, then of 8 to 15.
  __device__ char* scales_at(int place) const {
    return ring_ + Depth * shape::group_bytes + place * shape::group_scale_bytes + warp_ * 16 * F::scale_bytes;
  }

  const arguments& a_;
  const layer_pointers* const pointers_;
  char* const ring_;
  const int lane_, warp_;
  dealt_sets sets_;
  int layer_ = 0, op_ = 0, left_ = 0, owed_ = 0;
  int to_ = 0, used_ = 0;
  const std::uint8_t *from_[2], *scale_from_;
};

}  // namespace troupe::kernels::cuda::resident
