// Decode attention: a block of four warps walks its stretch of the step's splits; each warp streams its own 16-token tiles
// through shared memory, ahead of the arithmetic and across the borders of splits. K . Q^T and V^T . P on the tensor cores
// with the query heads of a group as the 8 columns. A sequence's splits are merged in their order: on the way by a block
// that does them from the first on, the rest by the block that finishes last. Knows the arena's layout; no model.
#include <cooperative_groups.h>

#include "kernels/cuda/attention_shared.hpp"
#include "kernels/cuda/clusters.hpp"
#include "kernels/cuda/decode_tiles.hpp"

namespace troupe::kernels::cuda {
namespace {

namespace cg = cooperative_groups;
using namespace decode;

/// Splits whose results lie in the workspace. They are counted a split later and merged, where they were a sequence's last,
/// yet a split later, so that nobody waits for the count.
struct arrival {
  int splits = 0;  ///< 0: none
  int all, sequence, group, row, first_slot, shared;
};

/// Shared: the first tokens of some sequences are attend_shared's; its results are there once the predecessor has ended.
template <int D, kv_format F, bool Shared>
class decode_block {
public:
  __device__ decode_block(const step_tables& tables, const attention_call& call, const head_groups& heads, const workspace_view& space, decode_room<D, F>& room)
      : tables_(tables), call_(call), heads_(heads), space_(space), room_(room) {}

  __device__ void run() {
    const bool fused = call_.rope.angles != nullptr;
    if (!fused) wait_for_predecessor();
    work_walk work(call_.plan.decode, heads_.all, F != kv_format::bf16);
    tile_stream<D, F> tiles(tables_, call_, heads_, room_, work);
    if (work.ended() && blockIdx.x > 0) return;  // makes room for the successor; one block must wait, for those behind it
    if (fused) wait_for_predecessor();
    if (work.ended()) return;
    row_loader<D, F> rows(call_, room_);
    rows.ask(work.sequence.row, item_heads(work.at.group, heads_));
    rows.store(0);
    __syncthreads();

    int turn = 0, done = 0;  // done: splits of these heads by this block
    bool fresh = true;       // the queries are not in registers yet
    query_columns<D, F> q;
    while (!work.ended()) {
      work_walk next = work;
      const bool last = next.advance();
      const item_heads heads(work.at.group, heads_);
      if (fresh) q.load(room_.queries[turn]);
      if (last && !next.ended()) rows.ask(next.sequence.row, item_heads(next.at.group, heads_));
      const column_state<D, F> state = attend(room_, tables_, call_, tiles, work, heads, q, turn);
      if (last && !next.ended()) rows.store(turn ^ 1);
      ++done;
#pragma unroll
      for (int q = 0; q < columns / quad; ++q) {
        if (q * quad >= heads.own) break;
        write_room(room_, state, q * quad);
        if (q == 0) {
          settle();
        } else {
          __syncthreads();
        }
        finish(running_[q], work, heads, q * quad, done, last);
        __syncthreads();  // the sums have been read, the records are written
      }
      if (last) {
        if (done < work.splits())
          stored_ = {done, work.splits(), work.at.sequence, work.at.group, work.sequence.row, work.sequence.first_slot, Shared ? work.sequence.shared : 0};
        done = 0;
        turn ^= 1;
      }
      fresh = last;
      work = next;
    }
    settle();
    __syncthreads();
    settle();
  }

private:
  /// Four heads of a split, summed over the warps. From a sequence's first split on they are merged right here; a block that
  /// began behind it leaves each to the merge.
  __device__ void finish(merged& running, const work_walk& work, const item_heads& heads, int first, int done, bool last) {
    if (static_cast<int>(threadIdx.x) >= min(heads.own - first, quad) * (D / 4)) return;
    const int head = first + static_cast<int>(threadIdx.x) / (D / 4), dim = static_cast<int>(threadIdx.x) % (D / 4) * 4;
    const merged here = merge_warps<D>(room_, head, dim);
    const bool from_first = done == work.at.split + 1;
    if (!from_first) return write_record(here, work.sequence.first_slot + work.at.split, heads.group, head, dim);
    if (done == 1) running = merged();
    running.add({here.maximum, here.sum}, here.out);
    if (!last) return;
    if (done == work.splits()) {
      if constexpr (Shared) add_shared(running, work, heads.group, head, dim);
      return running.store(call_.out + (std::int64_t{work.sequence.row} * call_.heads + heads.first + head) * D + dim);
    }
    write_record(running, work.sequence.first_slot, heads.group, head, dim);
    for (int s = 1; s < done; ++s) write_record(merged(), work.sequence.first_slot + s, heads.group, head, dim);
  }
  __device__ void add_shared(merged& own, const work_walk& work, int group, int head, int dim) {
    if (work.sequence.shared == 0) return;
    const merged others = merge_splits<D>(space_, heads_.all, work.sequence.first_slot + work.splits(), group, work.sequence.shared, head, dim);
    own.add({others.maximum, others.sum}, others.out);
  }
  /// One that is empty says no more than that.
  __device__ void write_record(const merged& result, int slot, int group, int head, int dim) {
    float* record = space_.records + ((std::int64_t{slot} * heads_.all + group) * columns + head) * (D + 4);
    if (dim == 0) *reinterpret_cast<float2*>(record + D) = {result.maximum, result.sum};
    if (result.maximum > minus_infinity) *reinterpret_cast<float4*>(record + dim) = result.out;
  }

  /// Takes earlier arrivals a step further. All threads; also makes what they wrote to shared memory visible.
  __device__ void settle() {
    if (threadIdx.x == 0) room_.last = counted_.splits > 0 && before_ + counted_.splits == counted_.all;
    __syncthreads();
    if (room_.last) merge();
    counted_ = stored_;
    stored_.splits = 0;
    if (threadIdx.x == 0 && counted_.splits > 0)
      asm volatile("atom.acq_rel.gpu.global.add.s32 %0, [%1], %2;"
                   : "=r"(before_) : "l"(space_.arrivals + counted_.sequence * heads_.all + counted_.group), "r"(counted_.splits) : "memory");
  }

  __device__ void merge() {
    if (threadIdx.x == 0) space_.arrivals[counted_.sequence * heads_.all + counted_.group] = 0;
    const item_heads heads(counted_.group, heads_);
    bf16* out = call_.out + (std::int64_t{counted_.row} * call_.heads + heads.first) * D;
    for (int i = threadIdx.x; i < heads.own * (D / 4); i += threads) {
      const int head = i / (D / 4), dim = i % (D / 4) * 4;
      merge_splits<D>(space_, heads_.all, counted_.first_slot, counted_.group, counted_.all + counted_.shared, head, dim).store(out + head * D + dim);
    }
  }

  const step_tables& tables_;
  const attention_call& call_;
  const head_groups& heads_;
  const workspace_view& space_;
  decode_room<D, F>& room_;
  merged running_[columns / quad];
  arrival stored_, counted_;
  int before_ = 0;
};

template <int D, kv_format F, bool Shared>
__global__ void __launch_bounds__(threads, 2) decode_rows(step_tables tables, attention_call call, head_groups heads, workspace_view space) {
  extern __shared__ __align__(128) std::byte shared[];
  let_successor_start();
  decode_block<D, F, Shared>(tables, call, heads, space, *reinterpret_cast<decode_room<D, F>*>(shared)).run();
}

// --- few short sequences: a cluster does all splits of one sequence and group, and merges them through its shared memory --

constexpr int cluster_blocks = 8;
constexpr int cluster_tokens = 2048;
constexpr int most_rounds = cluster_tokens / 128 / cluster_blocks;  // splits of a block

template <int D, kv_format F>
struct cluster_room {
  decode_room<D, F> room;
  alignas(16) float records[most_rounds][columns][D + 4];
};

template <int D, kv_format F>
__global__ void TROUPE_CLUSTER(cluster_blocks) __launch_bounds__(threads, 1) decode_in_clusters(step_tables tables, attention_call call, head_groups heads) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ __align__(128) std::byte shared[];
  auto& mine = *reinterpret_cast<cluster_room<D, F>*>(shared);
  decode_room<D, F>& room = mine.room;
  let_successor_start();
  if (!call.rope.angles) wait_for_predecessor();
  const auto cluster = cg::this_cluster();
  const int rank = static_cast<int>(cluster.block_rank()), pair = static_cast<int>(blockIdx.x) / cluster_blocks;
  if (pair >= call.plan.counts[0] * heads.all) return wait_for_predecessor();
  work_walk work(call.plan.decode, heads.all, pair, rank, cluster_blocks);
  const item_heads of(work.at.group, heads);
  const decode_sequence sequence = work.sequence;
  const int splits = work.splits();
  tile_stream<D, F> tiles(tables, call, heads, room, work);
  wait_for_predecessor();
  if (!work.ended()) {
    row_loader<D, F> rows(call, room);
    rows.ask(sequence.row, of);
    rows.store(0);
    __syncthreads();
  }
  query_columns<D, F> q;
  if (!work.ended()) q.load(room.queries[0]);
  for (int round = 0; !work.ended(); ++round, work.advance()) {
    const column_state<D, F> state = attend(room, tables, call, tiles, work, of, q, 0);
    for (int first = 0; first < of.own; first += quad) {
      write_room(room, state, first);
      __syncthreads();
      const int head = first + static_cast<int>(threadIdx.x) / (D / 4), dim = static_cast<int>(threadIdx.x) % (D / 4) * 4;
      if (head < min(of.own, first + quad)) {
        const merged here = merge_warps<D>(room, head, dim);
        float* record = mine.records[round][head];
        *reinterpret_cast<float4*>(record + dim) = here.out;
        if (dim == 0) *reinterpret_cast<float2*>(record + D) = {here.maximum, here.sum};
      }
      __syncthreads();
    }
  }
  cluster.sync();
  const int share = of.own * (D / 4) / cluster_blocks;
  if (static_cast<int>(threadIdx.x) < share) {
    const int i = rank * share + static_cast<int>(threadIdx.x), head = i / (D / 4), dim = i % (D / 4) * 4;
    merged all;
#pragma unroll 4
    for (int s = 0; s < splits; ++s) {
      const float* record = cluster.map_shared_rank(&mine, s % cluster_blocks)->records[s / cluster_blocks][head];
      all.add(*reinterpret_cast<const float2*>(record + D), *reinterpret_cast<const float4*>(record + dim));
    }
    all.store(call.out + (std::int64_t{sequence.row} * call.heads + of.first + head) * D + dim);
  }
  cluster.sync();  // no block leaves while another reads its memory
#endif
}

bool in_clusters(const step_tables& tables, const head_groups& heads) {
  return tables.longest <= cluster_tokens && tables.sequences * heads.all * cluster_blocks <= decode_blocks() && device_has_clusters();
}

/// All kernels of a step share one division of the memory: a multiprocessor that must divide it anew first runs dry.
void prepare(const void* kernel, std::size_t bytes) {
  static_cast<void>(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)));
  static_cast<void>(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared));
}

template <int D, kv_format F, bool Shared>
void launch_rows(const attention_call& call, const head_groups& heads, const workspace_view& space, cudaStream_t on) {
  prepare(reinterpret_cast<const void*>(decode_rows<D, F, Shared>), sizeof(decode_room<D, F>));
  launch(decode_rows<D, F, Shared>, dim3(static_cast<unsigned>(decode_blocks())), dim3(threads), sizeof(decode_room<D, F>), on, *call.tables, call, heads, space);
}

template <int D, kv_format F>
void launch_decode(const attention_call& call, const head_groups& heads, const workspace_view& space, cudaStream_t on) {
  if constexpr (F == kv_format::bf16)
    if (call.shared) {
      attend_shared(call, on);
      return launch_rows<D, F, true>(call, heads, space, on);
    }
  if (in_clusters(*call.tables, heads)) {
    const int pairs = call.tables->sequences * heads.all;
    prepare(reinterpret_cast<const void*>(decode_in_clusters<D, F>), sizeof(cluster_room<D, F>));
    return launch(decode_in_clusters<D, F>, dim3(static_cast<unsigned>(pairs * cluster_blocks)), dim3(threads), sizeof(cluster_room<D, F>), on, *call.tables, call, heads);
  }
  launch_rows<D, F, false>(call, heads, space, on);
}

template <kv_format F>
void launch_heads(const attention_call& call, const head_groups& heads, const workspace_view& space, cudaStream_t on) {
  if (call.kv.head_dim == 128) return launch_decode<128, F>(call, heads, space, on);
  launch_decode<64, F>(call, heads, space, on);
}

}  // namespace

std::int64_t decode_workspace_bytes(std::int64_t splits, std::int32_t heads, const kv_layout& kv) {
  const head_groups groups = groups_of(heads, kv);
  return arrival_bytes(groups) + splits * groups.all * columns * (kv.head_dim + 4) * 4;
}

bool splits_narrow(const step_tables& tables, std::int32_t heads, const kv_layout& kv) {
  return kv.format != kv_format::bf16 && !in_clusters(tables, groups_of(heads, kv));
}

void attend_decode(const attention_call& call, cudaStream_t on) {
  const head_groups heads = groups_of(call.heads, call.kv);
  const workspace_view space = workspace_of(call);
  switch (call.kv.format) {
    case kv_format::bf16: return launch_heads<kv_format::bf16>(call, heads, space, on);
    case kv_format::fp8: return launch_heads<kv_format::fp8>(call, heads, space, on);
    case kv_format::q8_0: return launch_heads<kv_format::q8_0>(call, heads, space, on);
  }
}

}  // namespace troupe::kernels::cuda
