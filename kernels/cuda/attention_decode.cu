// Decode attention: a block of four warps walks its share of the step's tiles of 16 tokens; each warp streams its own
// through shared memory, ahead of the arithmetic and across the borders of sequences. K . Q^T and V^T . P on the tensor
// cores with the query heads of a group as the 8 columns. What several blocks divide is merged, in the order of its
// tokens, by the one that finishes last. Knows the arena's layout; no model.
#include <cooperative_groups.h>

#include "kernels/cuda/attention_shared.hpp"
#include "kernels/cuda/clusters.hpp"
#include "kernels/cuda/decode_states.hpp"

namespace troupe::kernels::cuda {
namespace {

namespace cg = cooperative_groups;
using namespace decode;

/// Shared: the first tokens of some sequences are attend_shared's; its results are there once the predecessor has
/// ended.
template <int D, kv_format F, bool Shared>
class decode_block {
public:
  __device__ decode_block(const step_tables& tables, const attention_call& call, const head_groups& heads,
                          const workspace_view& space, decode_room<D, F>& room)
      : tables_(tables), call_(call), heads_(heads), space_(space), room_(room) {}

  __device__ void run() {
    const bool fused = call_.rope.angles != nullptr;
    if (!fused) wait_for_predecessor();
    work_walk work(call_.plan.decode, heads_.all);
    tile_stream<D, F> tiles(tables_, call_, heads_, room_, work);
    if (work.ended() && blockIdx.x > 0)
      return;  // makes room for the successor; one block must wait, for those behind it
    if (fused) wait_for_predecessor();
    if (work.ended()) return;
    row_loader<D, F> rows(call_, room_);
    rows.ask(work.sequence.row, item_heads(work.group(), heads_));
    rows.store(0);
    __syncthreads();

    query_columns<D, F> q;
    for (int turn = 0; !work.ended(); turn ^= 1) {
      const item_heads heads(work.group(), heads_);
      const bool from_first = work.tile == 0, whole = from_first && work.tiles() == work.pair_tiles();
      work_walk next = work;
      next.advance(work.tiles());
      q.load(room_.queries[turn]);
      if (!next.ended()) rows.ask(next.sequence.row, item_heads(next.group(), heads_));
      const column_state<D, F> state = attend(room_, tables_, call_, tiles, work, heads, q, turn);
      if (!next.ended()) rows.store(turn ^ 1);
#pragma unroll
      for (int first = 0; first < columns; first += quad) {
        if (first >= heads.own) break;
        write_room(room_, state, first);
        __syncthreads();
        finish(work.sequence, heads, first, whole ? nullptr : record_of(blockIdx.x, from_first));
        __syncthreads();  // the sums have been read, the records are written
      }
      if (!whole) {
        const int first = from_first ? static_cast<int>(blockIdx.x) : work.head_first(),
                  blocks = from_first ? work.tail_blocks() : work.head_blocks();
        if (last_of(first, blocks)) merge(work.sequence, heads, first, blocks);
      }
      work = next;
    }
  }

private:
  __device__ float* record_of(int block, bool of_tail) const {
    return space_.records + (2 * block + of_tail) * record_floats(D);
  }

  /// Four heads, summed over the warps: to `record`, or where there is none to the output.
  __device__ void finish(const decode_sequence& of, const item_heads& heads, int first, float* record) {
    if (static_cast<int>(threadIdx.x) >= min(heads.own - first, quad) * (D / 4)) return;
    const int head = first + static_cast<int>(threadIdx.x) / (D / 4), dim = static_cast<int>(threadIdx.x) % (D / 4) * 4;
    merged all = merge_warps<D>(room_, head, dim);
    if (!record) return store(all, of, heads, head, dim);
    record += head * (D + 4);
    if (dim == 0) *reinterpret_cast<float2*>(record + D) = {all.maximum, all.sum};
    *reinterpret_cast<float4*>(record + dim) = all.out;
  }
  __device__ void store(merged& all, const decode_sequence& of, const item_heads& heads, int head, int dim) {
    if constexpr (Shared)
      add_records<D>(all, of.shared, dim, [&](int i) {
        return space_.shared + (std::int64_t{of.shared_slot + i} * heads_.all + heads.group) * record_floats(D) +
               head * (D + 4);
      });
    all.store(call_.out + (std::int64_t{of.row} * call_.heads + heads.first + head) * D + dim);
  }
  /// Counts this block's result of the pair that began in block `first`: whether all are there now.
  __device__ bool last_of(int first, int blocks) {
    if (threadIdx.x == 0) {
      int* const arrivals = space_.arrivals + first;
      int before = 0;
      asm volatile("atom.acq_rel.gpu.global.add.s32 %0, [%1], 1;" : "=r"(before) : "l"(arrivals) : "memory");
      room_.last = before + 1 == blocks;
      if (room_.last) *arrivals = 0;
    }
    __syncthreads();
    return room_.last;
  }
  __device__ void merge(const decode_sequence& of, const item_heads& heads, int first, int blocks) {
    for (int i = threadIdx.x; i < heads.own * (D / 4); i += threads) {
      const int head = i / (D / 4), dim = i % (D / 4) * 4;
      merged all;
      add_records<D>(all, blocks, dim, [&](int b) { return record_of(first + b, b == 0) + head * (D + 4); });
      store(all, of, heads, head, dim);
    }
  }

  const step_tables& tables_;
  const attention_call& call_;
  const head_groups& heads_;
  const workspace_view& space_;
  decode_room<D, F>& room_;
};

template <int D, kv_format F, bool Shared>
__global__ void __launch_bounds__(threads, 2)
    decode_rows(step_tables tables, attention_call call, head_groups heads, workspace_view space) {
  extern __shared__ __align__(128) std::byte shared[];
  let_successor_start();
  decode_block<D, F, Shared>(tables, call, heads, space, *reinterpret_cast<decode_room<D, F>*>(shared)).run();
}

// --- few short sequences: a cluster does one sequence and group, and merges its blocks' parts through its shared
// memory --

constexpr int cluster_tokens = 2048;

template <int D, kv_format F>
struct cluster_room {
  decode_room<D, F> room;
  alignas(16) float record[columns][D + 4];
};

template <int D, kv_format F>
__global__ void TROUPE_CLUSTER(decode_cluster_blocks) __launch_bounds__(threads, 1)
    decode_in_clusters(step_tables tables, attention_call call, head_groups heads) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ __align__(128) std::byte shared[];
  auto& mine = *reinterpret_cast<cluster_room<D, F>*>(shared);
  decode_room<D, F>& room = mine.room;
  let_successor_start();
  if (!call.rope.angles) wait_for_predecessor();
  const auto cluster = cg::this_cluster();
  if (static_cast<int>(blockIdx.x) / decode_cluster_blocks >= call.plan.counts[0] * heads.all)
    return wait_for_predecessor();
  const work_walk work(call.plan.decode, heads.all);
  const item_heads of(work.group(), heads);
  tile_stream<D, F> tiles(tables, call, heads, room, work);
  if (work.ended())  // says nothing
    for (int i = threadIdx.x; i < columns * (D + 4); i += threads)
      mine.record[i / (D + 4)][i % (D + 4)] = i % (D + 4) == D ? minus_infinity : 0;
  wait_for_predecessor();
  if (!work.ended()) {
    row_loader<D, F> rows(call, room);
    rows.ask(work.sequence.row, of);
    rows.store(0);
    __syncthreads();
    query_columns<D, F> q;
    q.load(room.queries[0]);
    const column_state<D, F> state = attend(room, tables, call, tiles, work, of, q, 0);
    for (int first = 0; first < of.own; first += quad) {
      write_room(room, state, first);
      __syncthreads();
      const int head = first + static_cast<int>(threadIdx.x) / (D / 4),
                dim = static_cast<int>(threadIdx.x) % (D / 4) * 4;
      if (head < min(of.own, first + quad)) {
        const merged here = merge_warps<D>(room, head, dim);
        *reinterpret_cast<float4*>(&mine.record[head][dim]) = here.out;
        if (dim == 0) *reinterpret_cast<float2*>(&mine.record[head][D]) = {here.maximum, here.sum};
      }
      __syncthreads();
    }
  }
  cluster.sync();
  const int share = of.own * (D / 4) / decode_cluster_blocks;
  if (static_cast<int>(threadIdx.x) < share) {
    const int i = static_cast<int>(cluster.block_rank()) * share + static_cast<int>(threadIdx.x), head = i / (D / 4),
              dim = i % (D / 4) * 4;
    float2 states[decode_cluster_blocks];
    float4 parts[decode_cluster_blocks];
#pragma unroll
    for (int b = 0; b < decode_cluster_blocks; ++b) {
      const float* record = cluster.map_shared_rank(&mine, b)->record[head];
      states[b] = *reinterpret_cast<const float2*>(record + D);
      parts[b] = *reinterpret_cast<const float4*>(record + dim);
    }
    merged all;
    all.add(states, parts);
    all.store(call.out + (std::int64_t{work.sequence.row} * call.heads + of.first + head) * D + dim);
  }
  cluster.sync();  // no block leaves while another reads its memory
#endif
}

bool in_clusters(const step_tables& tables, const head_groups& heads) {
  return tables.longest <= cluster_tokens &&
         tables.sequences * heads.all * decode_cluster_blocks <= decode_blocks(tables.processors) &&
         device_has_clusters();
}

/// All kernels of a step share one division of the memory: a multiprocessor that must divide it anew first runs dry.
void prepare(const void* kernel, std::size_t bytes) {
  static_cast<void>(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)));
  static_cast<void>(
      cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared));
}

template <int D, kv_format F, bool Shared>
void launch_rows(const attention_call& call, const head_groups& heads, const workspace_view& space, cudaStream_t on) {
  prepare(reinterpret_cast<const void*>(decode_rows<D, F, Shared>), sizeof(decode_room<D, F>));
  launch(decode_rows<D, F, Shared>, dim3(static_cast<unsigned>(decode_blocks(call.tables->processors))), dim3(threads),
         sizeof(decode_room<D, F>), on, *call.tables, call, heads, space);
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
    return launch(decode_in_clusters<D, F>, dim3(static_cast<unsigned>(pairs * decode_cluster_blocks)), dim3(threads),
                  sizeof(cluster_room<D, F>), on, *call.tables, call, heads);
  }
  launch_rows<D, F, false>(call, heads, space, on);
}

template <kv_format F>
void launch_heads(const attention_call& call, const head_groups& heads, const workspace_view& space, cudaStream_t on) {
  if (call.kv.head_dim == 128) return launch_decode<128, F>(call, heads, space, on);
  launch_decode<64, F>(call, heads, space, on);
}

}  // namespace

std::int64_t decode_workspace_bytes(std::int64_t shared_results, std::int32_t heads, const kv_layout& kv) {
  return arrival_bytes +
         (2 * most_decode_blocks + shared_results * groups_of(heads, kv).all) * record_floats(kv.head_dim) * 4;
}

bool decodes_in_clusters(const step_tables& tables, std::int32_t heads, const kv_layout& kv) {
  return in_clusters(tables, groups_of(heads, kv));
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
