// Rows of logits to one token each by clusters of eight blocks: penalties, then the best, or a draw from what top-k,
// top-p and min-p leave, with log-probabilities where they are wanted. Of rows of which only the best is wanted a
// cluster reads several before its blocks compare. Knows no request.
#include <algorithm>

#include "kernels/cuda/row_selection.cuh"
#include "kernels/cuda/sampling.hpp"

namespace troupe::kernels::cuda {
namespace {

using namespace sampling;

/// In [0, 1), 53 bits: Philox 4x32-10.
__device__ double uniform(u64 key, u64 counter) {
  u32 c0 = static_cast<u32>(counter), c1 = static_cast<u32>(counter >> 32), c2 = 0, c3 = 0;
  u32 k0 = static_cast<u32>(key), k1 = static_cast<u32>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const u32 a = __umulhi(0xD2511F53u, c0), a_low = 0xD2511F53u * c0, b = __umulhi(0xCD9E8D57u, c2),
              b_low = 0xCD9E8D57u * c2;
    c0 = b ^ c1 ^ k0;
    c1 = b_low;
    c2 = a ^ c3 ^ k1;
    c3 = a_low;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return static_cast<double>((static_cast<u64>(c0) << 21) ^ (c1 >> 11)) * 0x1p-53;
}

class row_sampler : row_selection {
public:
  __device__ row_sampler(sample_room& room, const sample_call& call, const step_tables& tables, int row)
      : row_selection(room, call.vocab, const_cast<float*>(call.logits) + row * call.stride), call_(call),
        tables_(tables), how_(call.parameters[row]), row_(row) {}

  /// Only the best is wanted, of the logits as they are.
  __device__ static bool best_is_all(const sample_call& call, const sample_parameters& how) {
    const bool counted = call.counts && how.count_row >= 0;
    return blocks > 1 && !(how.temperature > 0) && how.top_logprobs < 0 && how.biases == 0 && how.seen == 0 && !counted;
  }

  /// This thread's best: the slice read once, past shared memory. 0, which is no number's rank, where one is no number.
  __device__ u64 best_where_it_is() const {
    constexpr int each = 5;  // loads on their way
    const float* from = call_.logits + row_ * call_.stride + first_;
    const int quads = (reinterpret_cast<std::uintptr_t>(from) & 15) == 0 ? size_ / 4 : 0;
    best_seen best;
    for (int first = threadIdx.x; first < quads; first += each * threads) {
      float4 some[each];
#pragma unroll
      for (int k = 0; k < each; ++k)
        some[k] = __ldcs(reinterpret_cast<const float4*>(from) + min(first + k * threads, quads - 1));
#pragma unroll
      for (int k = 0; k < each; ++k) {  // the last one again changes nothing
        const int i = 4 * min(first + k * threads, quads - 1);
        best.take(some[k].x, i), best.take(some[k].y, i + 1), best.take(some[k].z, i + 2), best.take(some[k].w, i + 3);
      }
    }
    for (int i = 4 * quads + threadIdx.x; i < size_; i += threads) best.take(from[i], i);
    return rank_of(best);
  }

  __device__ void finish(u64 best) { finish(best == 0 || best == no_rank ? -1 : id_of(best), 0.0f, 0); }

  __device__ void run() {
    load();
    const u64 least = reduce(rank_of(best_of_slice()), least_of{}, no_rank);
    const u64 best = least == 0 ? no_rank : least;
    sample_pick& pick = call_.picks[row_];
    if (best == no_rank) {
      if (leads()) finish(-1, 0.0f, 0);
      return;
    }
    best_ = logit_of(best);
    const int id = how_.temperature > 0 ? draw() : id_of(best);
    if (how_.top_logprobs < 0) {
      if (leads()) finish(id, 0.0f, 0);
      return;
    }
    const float norm = best_ + static_cast<float>(log(exponential_sum()));
    const u64 chosen = reduce(
        id >= first_ && id < first_ + size_ && threadIdx.x == 0 ? __float_as_uint(logits_[id - first_]) : 0, sum_of{});
    const int tops = min(min(how_.top_logprobs, most_top_logprobs), call_.vocab);
    int found = 0;
    if (tops > 0) {
      set_histogram(1.0f);
      const passing last = locate<true>(tops - 1, true);
      found = gather(0, last.rank == no_rank ? no_rank - 1 : last.rank);
      if (block_ == 0) {
        sort_candidates(found);
        found = min(found, tops);
        if (threadIdx.x < found) {
          pick.top_ids[threadIdx.x] = id_of(room_.candidates[threadIdx.x]);
          pick.top_logprobs[threadIdx.x] = logit_of(room_.candidates[threadIdx.x]) - norm;
        }
      }
    }
    if (leads()) finish(id, __uint_as_float(static_cast<u32>(chosen)) - norm, found);
  }

private:
  __device__ void finish(int id, float logprob, int tops) {
    sample_pick& pick = call_.picks[row_];
    pick.id = id;
    pick.logprob = logprob;
    pick.tops = tops;
    tables_.last_ids[tables_.sample_slots[row_]] = id;
    if (id >= 0 && call_.counts && how_.count_row >= 0) {
      std::uint16_t& count = call_.counts[std::int64_t{how_.count_row} * call_.vocab + id];
      if ((count & ~in_prompt) < in_prompt - 1) ++count;
    }
  }

  // --- the row ------------------------------------------------------------------------------------------------
  __device__ void load() {
    const float* from = call_.logits + row_ * call_.stride + first_;
    if (blocks == 1) {
      penalise();
      return;
    }
    if ((reinterpret_cast<std::uintptr_t>(from) & 15) == 0) {
      for (int i = threadIdx.x; i < size_ / 4; i += threads)
        reinterpret_cast<float4*>(logits_)[i] = __ldcs(reinterpret_cast<const float4*>(from) + i);
      for (int i = size_ / 4 * 4 + threadIdx.x; i < size_; i += threads) logits_[i] = from[i];
    } else {
      for (int i = threadIdx.x; i < size_; i += threads) logits_[i] = from[i];
    }
    __syncthreads();
    penalise();
  }

  __device__ void penalise() {
    for (int i = threadIdx.x; i < how_.biases; i += threads) {
      const token_bias bias = call_.biases[how_.first_bias + i];
      if (bias.id >= first_ && bias.id < first_ + size_) atomicAdd(&logits_[bias.id - first_], bias.value);
    }
    if (how_.biases > 0) __syncthreads();
    for (int i = threadIdx.x; i < how_.seen; i += threads) {
      const seen_token token = call_.seen[how_.first_seen + i];
      if (token.id >= first_ && token.id < first_ + size_) penalise(logits_[token.id - first_], token.in_output);
    }
    if (call_.counts && how_.count_row >= 0) {
      const std::uint16_t* counts = call_.counts + std::int64_t{how_.count_row} * call_.vocab + first_;
      for (int i = threadIdx.x; i < size_; i += threads)
        if (counts[i] != 0) penalise(logits_[i], counts[i] & ~in_prompt);
    }
    if (how_.seen > 0 || how_.count_row >= 0) __syncthreads();
  }
  __device__ void penalise(float& logit, int in_output) {
    logit = logit > 0 ? __fdiv_rn(logit, how_.repetition_penalty) : __fmul_rn(logit, how_.repetition_penalty);
    if (in_output > 0)
      logit = __fsub_rn(
          logit, __fadd_rn(how_.presence_penalty, __fmul_rn(how_.frequency_penalty, static_cast<float>(in_output))));
  }

  /// A thread's, in rising order of ids.
  struct best_seen {
    float logit = -INFINITY;
    int at = 0;
    bool bad = false;
    __device__ void take(float x, int i) {
      bad |= !(x < INFINITY);
      if (x > logit) logit = x, at = i;
    }
  };
  __device__ best_seen best_of_slice() const {
    best_seen best;
    for (int i = threadIdx.x; i < size_; i += threads) best.take(logits_[i], i);
    return best;
  }
  __device__ u64 rank_of(const best_seen& best) const {
    if (best.bad) return 0;
    return best.logit > -INFINITY ? sampling::rank_of(best.logit, first_ + best.at) : no_rank;
  }

  __device__ double exponential_sum() {
    set_temperature(1.0f);
    double sum = 0;
    for (int i = threadIdx.x; i < size_; i += threads) sum += static_cast<double>(weight(logits_[i]));
    return __longlong_as_double(reduce(__double_as_longlong(sum), double_sum_of{}, __double_as_longlong(0.0)));
  }

  __device__ int draw() {
    set_temperature(how_.temperature);
    const double u = uniform(how_.seed, how_.counter);
    const bool nucleus = how_.top_p < 1.0f, floor = how_.min_p > 0.0f;
    if (how_.top_k <= 0 && !nucleus && !floor) return draw_from_row(u);
    set_histogram(how_.temperature);
    u64 kept = total_mass_;
    if (how_.top_k > 0) {
      const passing last = locate<true>(static_cast<u64>(how_.top_k) - 1, false);
      if (last.rank != no_rank) kept = last.mass;
    }
    const u64 of_nucleus =
        nucleus ? locate<false>(reached(static_cast<double>(how_.top_p) * static_cast<double>(kept)), false).mass
                : kept;
    const u64 of_floor = floor ? mass_above(how_.min_p) : kept;
    kept = min(kept, min(of_nucleus, of_floor));
    return id_of(locate<false>(min(static_cast<u64>(u * static_cast<double>(kept)), kept - 1), false).rank);
  }
  /// The largest sum that is still short of `wanted`.
  __device__ static u64 reached(double wanted) {
    const auto up = static_cast<u64>(ceil(wanted));
    return up > 0 ? up - 1 : 0;
  }
  __device__ u64 mass_above(float least) {
    u64 sum = 0;
    for (int i = threadIdx.x; i < size_; i += threads) {
      const float w = weight(logits_[i]);
      if (w >= least) sum += static_cast<u64>(w * mass_unit);
    }
    return reduce(sum, sum_of{});
  }

  /// From the whole distribution, in order of ids. Each thread has a stretch of ids; an odd one, for the banks' sake.
  __device__ int draw_from_row(double u) {
    const int stretch = (size_ + threads - 1) / threads | 1;
    const int begin = min(static_cast<int>(threadIdx.x) * stretch, size_), end = min(begin + stretch, size_);
    u64 own = 0, of_block = 0;
    for (int i = begin; i < end; ++i) own += mass(logits_[i]);
    u64 before = exclusive_sum(own, of_block);
    u64 total = reduce(own, sum_of{});
    for (int b = 0; b < block_; ++b) before += room_.exchanged[turn_][b];
    u64 left = min(static_cast<u64>(u * static_cast<double>(total)), total - 1);
    u64 id = 0;
    if (before <= left && left < before + own) {
      left -= before;
      int i = begin;
      for (u64 m = mass(logits_[i]); left >= m; m = mass(logits_[i])) {
        left -= m;
        ++i;
      }
      id = static_cast<u64>(first_ + i);
    }
    return static_cast<int>(reduce(id, sum_of{}));
  }

  const sample_call& call_;
  const step_tables& tables_;
  const sample_parameters how_;
  int row_;
};

/// A cluster's rows of which only the best is wanted: its blocks wait for each other once for several rows.
__device__ void choose_bests(sample_room& room, const sample_call& call, const step_tables& tables, int first,
                             int apart, int rows) {
  const int own = static_cast<int>(threadIdx.x);
  int turn = 0;
  for (int from = first; from < rows; from += rows_together * apart, turn ^= 1) {
    const int own_row = from + own * apart;
    const bool wanted =
        own < rows_together && own_row < rows && row_sampler::best_is_all(call, call.parameters[own_row]);
    __syncthreads();  // the bests before have been read
    if (own < rows_together) {
      room.bests[own] = no_rank;
      room.wanted[own] = wanted;
    }
    __syncthreads();
    if (from == first)
      wait_for_predecessor();  // parameters are of the step's record, which is there since its beginning
    for (int k = 0; k < rows_together; ++k) {
      if (!room.wanted[k]) continue;
      u64 best = row_sampler(room, call, tables, from + k * apart).best_where_it_is();
      for (int step = 16; step > 0; step /= 2) best = min(best, __shfl_xor_sync(~0u, best, step));
      if ((threadIdx.x & 31) == 0) atomicMin(&room.bests[k], best);
    }
    __syncthreads();
    if (from == first) row_blocks::await();  // the others run by now: before, their memory is not to be written to
    const int rank = row_blocks::rank();
    if (wanted) row_blocks::room_of(room, 0)->of_blocks[turn][own][rank] = room.bests[own];
    row_blocks::sync();
    if (!wanted || rank != 0) continue;
    u64 best = no_rank;
    for (int b = 0; b < blocks; ++b) best = min(best, room.of_blocks[turn][own][b]);
    row_sampler(room, call, tables, own_row).finish(best);
  }
}

__global__ void TROUPE_CLUSTER(cluster_blocks) __launch_bounds__(threads, 2)
    sample_rows(sample_call call, step_tables tables) {
  extern __shared__ __align__(16) std::byte shared[];
  let_successor_start();
  auto& room = *reinterpret_cast<sample_room*>(shared);
  const int first = blockIdx.x / blocks, apart = gridDim.x / blocks, rows = tables.counts[2];
  if (first >= rows) return wait_for_predecessor();
  row_blocks::arrive();
  if constexpr (blocks > 1) {
    choose_bests(room, call, tables, first, apart, rows);
  } else {
    wait_for_predecessor();
  }
  for (int row = first; row < rows; row += apart) {
    if (row_sampler::best_is_all(call, call.parameters[row])) continue;
    row_sampler(room, call, tables, row).run();
    row_blocks::sync();  // the next row's figures come where this one's are
  }
  row_blocks::sync();  // no block leaves while another reads its memory
}

/// Of one block of `blocks` that share a row.
std::size_t room_bytes(std::int32_t vocab, int blocks) {
  return sizeof(sample_room) +
         (blocks == 1 ? 0 : static_cast<std::size_t>((vocab + blocks * 4 - 1) / (blocks * 4) * 4) * sizeof(float));
}

/// As many as the device holds: one more would begin when all others end.
int clusters_at_once(std::size_t bytes) {
  cudaLaunchAttribute size{};
  size.id = cudaLaunchAttributeClusterDimension;
  size.val.clusterDim = {cluster_blocks, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(cluster_blocks);
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = bytes;
  config.attrs = &size;
  config.numAttrs = 1;
  int clusters = 0;
  if (cudaOccupancyMaxActiveClusters(&clusters, sample_rows, &config) != cudaSuccess)
    static_cast<void>(cudaGetLastError());  // launching will fail as well
  return std::max(clusters, 1);
}

}  // namespace

std::int32_t most_vocab() {
  if (!device_has_clusters()) return (1 << 18) - 1;  // what sums of mass hold
  int device = 0, bytes = 0;
  static_cast<void>(cudaGetDevice(&device));
  static_cast<void>(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  return static_cast<std::int32_t>((static_cast<std::size_t>(bytes) - sizeof(sample_room)) / sizeof(float) / 4 * 4 *
                                   cluster_blocks);
}

void sample(const sample_call& call, cudaStream_t on) {
  const int each = device_has_clusters() ? cluster_blocks : 1;
  const std::size_t bytes = room_bytes(call.vocab, each);
  static_cast<void>(
      cudaFuncSetAttribute(sample_rows, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)));
  static_cast<void>(cudaFuncSetAttribute(sample_rows, cudaFuncAttributePreferredSharedMemoryCarveout,
                                         cudaSharedmemCarveoutMaxShared));
  const int rows = each == 1 ? call.tables->samples : std::min(call.tables->samples, clusters_at_once(bytes));
  launch(sample_rows, dim3(static_cast<unsigned>(rows * each)), dim3(threads), bytes, on, call, *call.tables);
}

}  // namespace troupe::kernels::cuda
