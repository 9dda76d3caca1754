// How a block of decode attention comes by its tiles: its memory, the walk over its stretch, the warps' streams. Device
// code only; knows no softmax and no launch.
#pragma once

#include "kernels/cuda/decode_workspace.hpp"
#include "kernels/cuda/warp_tiles.hpp"

namespace troupe::kernels::cuda::decode {

constexpr int warps = 4;
constexpr int threads = warps * 32;
constexpr int quad = 4;  ///< heads that are summed over the warps at a time: two blocks must fit a multiprocessor
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
  bool last;
};

/// A block's stretch of the step's tiles, pair after pair of a sequence and a group of query heads: `left` tiles from
/// `tile` of this pair on. The next pair's sequence is asked for when a pair begins. All lanes of a warp together.
struct work_walk {
  const decode_plan* plan;
  int groups;
  int at, turn, tile, left, step, other_step;  ///< at: of plan->by_length; steps: of both, as pair_number has them
  decode_sequence sequence, ahead;

  __device__ work_walk(const decode_plan* plan, int groups) : plan(plan), groups(groups) {
    word_ = reinterpret_cast<const int*>(&plan->stretches[blockIdx.x])[threadIdx.x & 31];
    const auto word = [&](int i) { return __shfl_sync(~0u, word_, i); };
    at = sequence_of(word(0)), turn = group_of(word(0)), tile = word(1), left = word(2), step = word(3),
    other_step = word(4);
    sequence = {word(8), word(9), word(10), word(11), word(12), {}};
    if (left > 0) look_ahead();
  }
  /// The first of the next tiles that is warp `warp`'s: every fourth, and evenly over the borders of pairs.
  __device__ int first_of(int warp) const { return (left - warp) & (warps - 1); }
  /// How many of the next `tiles` are.
  __device__ int share(int tiles, int warp) const { return (tiles - first_of(warp) + warps - 1) / warps; }
  /// Of the stretch's first tiles that are the warp's, the block of this lane's.
  __device__ int first_block() const {
    return __shfl_sync(~0u, word_, 16 + (first_of(threadIdx.x >> 5) + (threadIdx.x & 31) * warps) % 16);
  }
  __device__ bool ended() const { return left <= 0; }
  /// Each sequence begins with another: blocks that go through sequences group by group would else all be at the same
  /// heads at a time, whose tiles lie in few of the memory's channels.
  __device__ int group() const { return (groups & (groups - 1)) == 0 ? (at + turn) & (groups - 1) : turn; }
  __device__ int head_first() const { return __shfl_sync(~0u, word_, 5); }
  __device__ int head_blocks() const { return __shfl_sync(~0u, word_, 6); }
  __device__ int tail_blocks() const { return __shfl_sync(~0u, word_, 7); }
  __device__ int pair_tiles() const { return (sequence.length + block_tokens - 1) / block_tokens; }
  /// Of this pair in this block, from `tile` on.
  __device__ int tiles() const { return min(left, pair_tiles() - tile); }
  __device__ void advance(int tiles) {
    left -= tiles;
    tile += tiles;
    if (tile < pair_tiles()) return;
    tile = 0;
    const int2 next = behind();
    at = next.x;
    turn = next.y;
    const int taken = step;
    step = other_step;
    other_step = taken;
    sequence = ahead;
    look_ahead();
  }

private:
  __device__ static int sequence_of(int pair) { return pair & 0xffff; }
  __device__ static int group_of(int pair) { return pair >> 16; }
  /// The next pair.
  __device__ int2 behind() const {
    const int next = at + sequence_of(step), group = turn + group_of(step);
    return group < groups ? int2{next, group} : int2{next + 1, group - groups};
  }
  __device__ void look_ahead() { ahead = plan->by_length[min(behind().x, most_decode_sequences - 1)]; }

  int word_;
};

/// The tiles of one warp, in the order of its block's, up to `stages` ahead of their use. The numbers of their blocks
/// are taken from the table for a run of tiles at once, while the run before is on its way.
template <int D, kv_format F>
class tile_stream {
public:
  static constexpr int stages = stages_of<F>;
  static constexpr int tile_bytes = kv_layout::tile_bytes_of(D, F);

  __device__ tile_stream(const step_tables& tables, const attention_call& call, const head_groups& heads,
                         decode_room<D, F>& room, const work_walk& work)
      : tables_(tables), heads_(heads), room_(room), layer_(call.kv.tile(0, call.layer, 0)),
        block_bytes_(call.kv.block_bytes()), value_offset_(call.kv.value_offset()), lane_(threadIdx.x & 31),
        warp_(threadIdx.x >> 5), ahead_(work) {
#if __CUDA_ARCH__ >= 900
    if (lane_ < stages) barrier_init(&room_.arrived[warp_][lane_], 1);
    barrier_init_fence();
    __syncwarp();
#endif
    ahead_blocks_ = work.first_block();
    enter(16);
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
  __device__ void ask_blocks() {
    const int at = ahead_.first_of(warp_) + lane_ * warps;
    if (at < ahead_.tiles()) ahead_blocks_ = tables_.block_tables[ahead_.sequence.table + ahead_.tile + at];
  }
  /// Turns to the next run in which this warp has tiles, and asks for the blocks of the one behind it.
  __device__ void enter(int most = 32 * warps) {
    for (left_ = 0; left_ <= 0 && !ahead_.ended(); most = 32 * warps) {
      const int tiles = min(ahead_.tiles(), most);
      left_ = ahead_.share(tiles, warp_);
      blocks_ = ahead_blocks_;
      kv_head_ = heads_.kv_head(ahead_.group());
      ahead_.advance(tiles);
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
        copy_bulk_once(to[0], from, tile_bytes, barrier);
        copy_bulk_once(to[1], from + value_offset_, tile_bytes, barrier);
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

}  // namespace troupe::kernels::cuda::decode
