// Decode attention over K and V that several sequences have in common (Juravsky et al., "Hydragen", 2024; Ye et al.,
// "Cascade Inference", 2024): the queries of up to 64 rows, sequences times heads of a KV head, meet tiles of 64 tokens
// by wgmma, brought by a producer warp; two blocks a multiprocessor, one's softmax beside the other's products. Each
// row's result goes to its sequence's place in the decode workspace. Knows the arena's layout; no model.
#include "kernels/cuda/attention_shared.hpp"
#include "kernels/cuda/decode_workspace.hpp"
#include "kernels/cuda/group_tiles.hpp"
#include "kernels/cuda/rotate.hpp"

namespace troupe::kernels::cuda {
namespace {

using decode::head_groups;
using decode::workspace_view;

constexpr int tile_rows = shared_tile_rows;
constexpr int tile_keys = 64;
constexpr int stages = 2;
constexpr int consumers = 128;
constexpr int threads = consumers + 32;
constexpr int blocks_together = 2;  ///< a multiprocessor's
[[maybe_unused]] constexpr int block_tokens = kv_layout::block_tokens;
[[maybe_unused]] constexpr int panel_bytes = tile_keys * 128;  ///< 64 dims of a tile
static_assert(shared_piece % tile_keys == 0);

template <int D>
struct shared_room {
  std::byte q[tile_rows * D * 2];          // panels of 64 dims
  std::byte k[stages][tile_keys * D * 2];  // panels of 64 dims
  std::byte v[stages][tile_keys * D * 2];
  std::uint64_t k_here[stages], k_free[stages], v_here[stages], v_free[stages];
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// The works of this block, in turn with the others: an item and a KV head.
struct work_list {
  const attention_call& call;
  int index = static_cast<int>(blockIdx.x);

  __device__ bool next(shared_item& item, int& kv_head) {
    if (index >= *call.shared.items_there * call.kv.kv_heads) return false;
    item = call.shared.items[index / call.kv.kv_heads];
    kv_head = index % call.kv.kv_heads;
    index += static_cast<int>(gridDim.x);
    return true;
  }
};

/// Copies the tiles' blocks, a lane a block and panel. All of these tokens are of earlier steps.
template <int D>
__device__ void produce(shared_room<D>& room, const step_tables& tables, const attention_call& call) {
  constexpr int panels = D / 64, blocks = tile_keys / block_tokens, piece_bytes = block_tokens * 128;
  const int lane = threadIdx.x & 31, block_of = lane / panels, panel = lane % panels;
  const int to = panel * panel_bytes + block_of * piece_bytes;
  const bool copies = lane < blocks * panels;
  work_list works{call};
  shared_item item;
  int kv_head = 0;
  unsigned copied = 0;
  while (works.next(item, kv_head)) {
    const int* table =
        tables.block_tables + std::int64_t{item.sequence} * tables.table_stride + item.first / block_tokens;
    const int all = item.tokens / tile_keys;
    int block = copies ? table[block_of] : 0;
    for (int t = 0; t < all; ++t, ++copied) {
      const unsigned stage = copied % stages, parity = (copied / stages + 1) & 1;
      const std::byte* from = call.kv.tile(block, call.layer, kv_head) + panel * piece_bytes;
      if (copies && t + 1 < all) block = table[(t + 1) * blocks + block_of];
      const auto bring = [&](std::byte* tile, std::uint64_t& here, std::uint64_t& free, const std::byte* piece) {
        if (copied >= stages) barrier_wait(&free, parity);
        if (lane == 0) barrier_expect(&here, tile_keys * D * 2);
        __syncwarp();
        if (copies) copy_bulk(tile + to, piece, piece_bytes, &here);
      };
      bring(room.k[stage], room.k_here[stage], room.k_free[stage], from);
      bring(room.v[stage], room.v_here[stage], room.v_free[stage], from + call.kv.value_offset());
    }
  }
}

/// The 64 query rows of a block; this lane has rows lane / 4 and 8 behind it of its warp's 16.
template <int D>
class query_rows {
public:
  __device__ query_rows(shared_room<D>& room, const step_tables& tables, const attention_call& call,
                        const head_groups& heads, const workspace_view& space)
      : room_(room), tables_(tables), call_(call), heads_(heads), space_(space), lane_(threadIdx.x & 31),
        warp_(threadIdx.x >> 5), scale_(call.scale * 1.44269504f) {}

  __device__ void run() {
    work_list works{call_};
    bool any = works.next(item_, kv_head_);
    if (any) find_rows();
    wait_for_predecessor();
    while (any) {
      load_queries();
      for (float& o : out_) o = 0;
      maximum_[0] = maximum_[1] = -INFINITY;
      sum_[0] = sum_[1] = 0;
      for (int t = 0; t < item_.tokens / tile_keys; ++t, ++used_) add_tile();
      store();
      any = works.next(item_, kv_head_);
      if (any) find_rows();
    }
  }

private:
  static constexpr int units = D / 16;  // of a row: 16 numbers each
  static constexpr int units_a_thread = tile_rows * units / consumers;

  __device__ static int chunk_at(int row, int chunk) {
    return chunk / 8 * (tile_rows * 128) + row * 128 + ((chunk % 8 ^ row % 8) << 4);
  }
  __device__ static void synchronise() { asm volatile("bar.sync 1, 128;" ::: "memory"); }
  __device__ int row_of_unit(int i) const { return (static_cast<int>(threadIdx.x) + i * consumers) / units; }
  __device__ shared_seat seat_of(int row) const { return call_.shared.seats[item_.first_seat + row / heads_.heads]; }
  __device__ bool there(int row) const { return row / heads_.heads < item_.seats; }

  /// What the step's plan knows of the rows: nothing of this layer.
  __device__ void find_rows() {
#pragma unroll
    for (int i = 0; i < units_a_thread; ++i) {
      const int row = row_of_unit(i);
      rows_[i] = there(row) ? tables_.first_row[seat_of(row).sequence] : -1;
    }
    for (int r = 0; r < 2; ++r) {
      const int row = warp_ * 16 + lane_ / 4 + r * 8;
      if (!there(row)) continue;
      const shared_seat seat = seat_of(row);
      slots_[r] = call_.plan.decode->shared_slots[seat.sequence] + seat.result + item_.split;
    }
  }

  __device__ void load_queries() {
    synchronise();  // all have done with the queries before
#pragma unroll
    for (int i = 0; i < units_a_thread; ++i) {
      const int row = row_of_unit(i), unit = static_cast<int>(threadIdx.x) % units;
      const int2 at = chunks_of(unit, call_.rope);
      chunk low{}, high{};
      if (rows_[i] >= 0) {
        const int head = kv_head_ * heads_.heads + row % heads_.heads;
        const auto* from = reinterpret_cast<const chunk*>(
            call_.qkv + (std::int64_t{rows_[i]} * (call_.heads + 2 * call_.kv.kv_heads) + head) * D);
        low = from[at.x];
        high = from[at.y];
        row_angles(call_.rope, rows_[i], unit).rotate(low, high);
      }
      *reinterpret_cast<chunk*>(room_.q + chunk_at(row, at.x)) = low;
      *reinterpret_cast<chunk*>(room_.q + chunk_at(row, at.y)) = high;
    }
    fence_async_proxy();
    synchronise();
  }

  __device__ void release(std::uint64_t& barrier) const {
    if (lane_ == 0) barrier_arrive(&barrier);
  }

  __device__ void add_tile() {
    const unsigned stage = used_ % stages, parity = used_ / stages & 1;
    const std::uint32_t q = shared_address(room_.q), k = shared_address(room_.k[stage]),
                        v = shared_address(room_.v[stage]);
    barrier_wait(&room_.k_here[stage], parity);
    group_fence();
#pragma unroll
    for (int s = 0; s < D / 16; ++s)
      group_multiply<tile_keys>(score_, operand(q + s / 4 * (tile_rows * 128) + s % 4 * 32),
                                operand(k + s / 4 * panel_bytes + s % 4 * 32), s > 0);
    group_commit();
    group_wait<0>();
    hold(score_);
    release(room_.k_free[stage]);
    soften();
    barrier_wait(&room_.v_here[stage], parity);
    group_fence();
#pragma unroll
    for (int s = 0; s < tile_keys / 16; ++s) group_multiply<D>(out_, weights_[s], operand(v + s * 2048, panel_bytes));
    group_commit();
    group_wait<0>();
    hold(out_);
    release(room_.v_free[stage]);
  }

  /// Scores to weights, under the largest score so far.
  __device__ void soften() {
    float shrink[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float best = maximum_[r];
#pragma unroll
      for (int i = 2 * r; i < tile_keys / 2; i += 4) best = fmaxf(best, fmaxf(score_[i], score_[i + 1]));
      best = fmaxf(best, __shfl_xor_sync(~0u, best, 1));
      best = fmaxf(best, __shfl_xor_sync(~0u, best, 2));
      shrink[r] = exp2_fast((maximum_[r] - best) * scale_);
      maximum_[r] = best;
      const float offset = best * scale_;
      float fresh = 0;
#pragma unroll
      for (int i = 2 * r; i < tile_keys / 2; i += 4) {
        score_[i] = exp2_fast(fmaf(score_[i], scale_, -offset));
        score_[i + 1] = exp2_fast(fmaf(score_[i + 1], scale_, -offset));
        fresh += score_[i] + score_[i + 1];
      }
      sum_[r] = sum_[r] * shrink[r] + fresh;
    }
#pragma unroll
    for (int i = 0; i < D / 2; ++i) out_[i] *= shrink[i / 2 % 2];
#pragma unroll
    for (int i = 0; i < tile_keys / 4; ++i) weights_[i / 4][i % 4] = pack_bf16(score_[2 * i], score_[2 * i + 1]);
  }

  /// As decode attention keeps what is not whole.
  __device__ void store() {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      sum_[r] += __shfl_xor_sync(~0u, sum_[r], 1);
      sum_[r] += __shfl_xor_sync(~0u, sum_[r], 2);
      const int row = warp_ * 16 + lane_ / 4 + r * 8;
      if (!there(row)) continue;
      const int head = row % heads_.heads, group = kv_head_ * heads_.groups + head / decode::columns;
      float* record = space_.shared + (std::int64_t{slots_[r]} * heads_.all + group) * decode::record_floats(D) +
                      head % decode::columns * (D + 4);
      if (lane_ % 4 == 0) *reinterpret_cast<float2*>(record + D) = {maximum_[r] * scale_, sum_[r]};
#pragma unroll
      for (int c = 0; c < D / 8; ++c)
        *reinterpret_cast<float2*>(record + c * 8 + lane_ % 4 * 2) = {out_[4 * c + 2 * r], out_[4 * c + 2 * r + 1]};
    }
  }

  shared_room<D>& room_;
  const step_tables& tables_;
  const attention_call& call_;
  const head_groups& heads_;
  const workspace_view& space_;
  int lane_, warp_;
  float scale_;
  shared_item item_;
  int kv_head_ = 0;
  unsigned used_ = 0;
  int rows_[units_a_thread], slots_[2];
  float score_[tile_keys / 2];
  float out_[D / 2];
  std::uint32_t weights_[tile_keys / 16][4];
  float maximum_[2], sum_[2];
};

#endif

template <int D>
__global__ void __launch_bounds__(threads, blocks_together)
    shared_rows(step_tables tables, attention_call call, head_groups heads, workspace_view space) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ std::byte shared[];
  auto& room = *reinterpret_cast<shared_room<D>*>(shared + (-shared_address(shared) & 1023));
  let_successor_start();
  if (static_cast<int>(blockIdx.x) >= *call.shared.items_there * call.kv.kv_heads) {
    if (blockIdx.x == 0) wait_for_predecessor();  // for those behind it
    return;
  }
  if (threadIdx.x == 0) {
    for (int s = 0; s < stages; ++s) {
      barrier_init(&room.k_here[s], 1);
      barrier_init(&room.v_here[s], 1);
      barrier_init(&room.k_free[s], consumers / 32);
      barrier_init(&room.v_free[s], consumers / 32);
    }
    barrier_init_fence();
  }
  __syncthreads();
  if (threadIdx.x >= consumers) return produce<D>(room, tables, call);
  query_rows<D>(room, tables, call, heads, space).run();
#endif
}

template <int D>
void launch_shared(const attention_call& call, cudaStream_t on) {
  constexpr std::size_t bytes = sizeof(shared_room<D>) + 1024;
  static_cast<void>(cudaFuncSetAttribute(shared_rows<D>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  static_cast<void>(cudaFuncSetAttribute(shared_rows<D>, cudaFuncAttributePreferredSharedMemoryCarveout,
                                         cudaSharedmemCarveoutMaxShared));
  launch(shared_rows<D>, dim3(static_cast<unsigned>(decode_blocks())), dim3(threads), bytes, on, *call.tables, call,
         decode::groups_of(call.heads, call.kv), decode::workspace_of(call));
}

}  // namespace

void attend_shared(const attention_call& call, cudaStream_t on) {
  if (call.kv.head_dim == 128) return launch_shared<128>(call, on);
  launch_shared<64>(call, on);
}

bool reads_shared(const kv_layout& kv, std::int32_t heads) {
  if (kv.format != kv_format::bf16 || heads / kv.kv_heads > tile_rows) return false;
  int device = 0, major = 0, minor = 0;
  static_cast<void>(cudaGetDevice(&device));
  static_cast<void>(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  static_cast<void>(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
  return major == 9 && minor == 0;
}

}  // namespace troupe::kernels::cuda
