// Where along a row's tokens, best first, a running count or mass passes a target ("the k-th best", "where the mass
// reaches p", "where the draw falls"): the one question that sampling asks. A cluster of eight blocks has the row in
// shared memory, an eighth each; a histogram finds the bin, the bin's few tokens are sorted. Masses are whole numbers,
// so sums do not depend on order. Knows no parameters and no generator.
#pragma once

#include <cooperative_groups.h>

#include <cstdint>

#include "kernels/cuda/clusters.hpp"

namespace troupe::kernels::cuda::sampling {

using u32 = std::uint32_t;
using u64 = unsigned long long;

constexpr int cluster_blocks = 8;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
constexpr int blocks = 1;  ///< to a row; without clusters the row stays where it is and is overwritten
#else
constexpr int blocks = cluster_blocks;
#endif
constexpr int threads = 512;
constexpr int rows_together =
    8;  ///< that a cluster looks through for their best before it compares what its blocks found
constexpr int bins = 1024;
constexpr int most_candidates = 1024;
/// Weights below 2^-42 = e^-29.1 have no mass; the histogram ends a little below.
constexpr float mass_unit = 4398046511104.0f;
constexpr float histogram_depth = 29.5f;
constexpr int part_bits = 14;  ///< a mass is added up in three parts of 14 bits, which no slice overflows

struct sample_room {
  u32 counts[bins];
  u32 masses[3][bins];
  u64 candidates[most_candidates];  // the first block's: of the cluster
  u64 mass_up_to[bins];             // the first block's, as the next
  u32 count_up_to[bins];
  u64 exchanged[2][blocks];
  u64 bests[rows_together];                 // this block's
  u64 of_blocks[2][rows_together][blocks];  // the first block's: of all
  bool wanted[rows_together];
  u64 warp_values[threads / 32];
  u64 found[4];
  u64 shared[4];
  u32 gathered;
  alignas(16) float logits[1];  // [slice]
};

/// The blocks of a row.
class row_blocks {
public:
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
  __device__ static int rank() { return 0; }
  __device__ static void sync() { __syncthreads(); }
  __device__ static void arrive() {}
  __device__ static void await() {}
  __device__ static sample_room* room_of(sample_room& room, int) { return &room; }
#else
  __device__ static int rank() { return static_cast<int>(cooperative_groups::this_cluster().block_rank()); }
  __device__ static void sync() { cooperative_groups::this_cluster().sync(); }
  __device__ static void arrive() { cooperative_groups::this_cluster().barrier_arrive(); }
  __device__ static void await() { cooperative_groups::this_cluster().barrier_wait(); }
  __device__ static sample_room* room_of(sample_room& room, int rank) {
    return cooperative_groups::this_cluster().map_shared_rank(&room, rank);
  }
#endif
};

/// e^x for x <= 0 in the CPU's arithmetic, bit for bit: no contraction.
__device__ inline float exp_of_negative(float x) {
  const float clamped = fmaxf(x, -87.0f);
  const float n = __fadd_rn(__fadd_rn(__fmul_rn(clamped, 1.44269504f), 12582912.0f), -12582912.0f);
  const float r = __fadd_rn(__fsub_rn(clamped, __fmul_rn(n, 0.693359375f)), __fmul_rn(n, 2.12194440e-4f));
  float p = 1.9875691500e-4f;
  p = __fadd_rn(__fmul_rn(p, r), 1.3981999507e-3f);
  p = __fadd_rn(__fmul_rn(p, r), 8.3334519073e-3f);
  p = __fadd_rn(__fmul_rn(p, r), 4.1665795894e-2f);
  p = __fadd_rn(__fmul_rn(p, r), 1.6666665459e-1f);
  p = __fadd_rn(__fmul_rn(p, r), 5.0000001201e-1f);
  p = __fadd_rn(__fadd_rn(__fmul_rn(__fmul_rn(p, r), r), r), 1.0f);
  return x < -87.0f ? 0.0f : __fmul_rn(p, __int_as_float((static_cast<int>(n) + 127) << 23));
}

/// Better logits have smaller ranks; equal ones go by id.
__device__ inline u64 rank_of(float logit, int id) {
  const u32 bits = __float_as_uint(logit + 0.0f);  // -0 is 0
  const u32 rising = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return static_cast<u64>(~rising) << 32 | static_cast<u32>(id);
}
__device__ inline float logit_of(u64 rank) {
  const u32 rising = ~static_cast<u32>(rank >> 32);
  return __uint_as_float(rising & 0x80000000u ? rising & 0x7fffffffu : ~rising);
}
__device__ inline int id_of(u64 rank) { return static_cast<int>(static_cast<u32>(rank)); }

constexpr u64 no_rank = ~u64{0};  ///< worse than all; as a row's best: the row holds no numbers

struct sum_of {
  __device__ u64 operator()(u64 a, u64 b) const { return a + b; }
};
struct least_of {
  __device__ u64 operator()(u64 a, u64 b) const { return a < b ? a : b; }
};
struct double_sum_of {
  __device__ u64 operator()(u64 a, u64 b) const {
    return __double_as_longlong(__longlong_as_double(a) + __longlong_as_double(b));
  }
};

/// Where a running sum passed its target.
struct passing {
  u64 rank = no_rank;  ///< no_rank: nowhere
  u64 mass = 0;        ///< of all tokens up to and with it
};

/// One block's slice of a row, and what the cluster finds out about the whole of it. Everything is collective.
class row_selection {
protected:
  __device__ row_selection(sample_room& room, int vocab, float* in_place) : room_(room), block_(row_blocks::rank()) {
    const int slice = (vocab + blocks * 4 - 1) / (blocks * 4) * 4;
    first_ = min(block_ * slice, vocab);
    size_ = min(slice, vocab - first_);
    logits_ = blocks > 1 ? room.logits : in_place;
  }
  __device__ bool leads() const { return block_ == 0 && threadIdx.x == 0; }

  // --- the cluster --------------------------------------------------------------------------------------------
  /// All threads of the cluster get the result; the order of operations is fixed.
  template <class Operation>
  __device__ u64 reduce(u64 value, Operation op, u64 neutral = 0) {
    for (int step = 16; step > 0; step /= 2) value = op(value, __shfl_xor_sync(~0u, value, step));
    __syncthreads();
    if ((threadIdx.x & 31) == 0) room_.warp_values[threadIdx.x >> 5] = value;
    __syncthreads();
    turn_ ^= 1;
    if (threadIdx.x < blocks) {
      u64 of_block = neutral;
      for (int w = 0; w < threads / 32; ++w) of_block = op(of_block, room_.warp_values[w]);
      row_blocks::room_of(room_, threadIdx.x)->exchanged[turn_][block_] = of_block;
    }
    row_blocks::sync();
    u64 all = neutral;
    for (int b = 0; b < blocks; ++b) all = op(all, room_.exchanged[turn_][b]);
    return all;
  }

  /// What the first block has in `found`, for all. Between two calls lies another synchronisation of the cluster.
  __device__ void share_found() {
    if (block_ == 0 && threadIdx.x < blocks)
      for (int i = 0; i < 4; ++i) row_blocks::room_of(room_, threadIdx.x)->shared[i] = room_.found[i];
    row_blocks::sync();
    for (int i = 0; i < 4; ++i) shared_[i] = room_.shared[i];
  }

  /// Sum of what the threads before this one in the block hold.
  __device__ u64 exclusive_sum(u64 value, u64& total) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    u64 inclusive = value;
    for (int step = 1; step < 32; step *= 2) {
      const u64 left = __shfl_up_sync(~0u, inclusive, step);
      if (lane >= step) inclusive += left;
    }
    __syncthreads();
    if (lane == 31) room_.warp_values[warp] = inclusive;
    __syncthreads();
    u64 before = 0;
    total = 0;
    for (int w = 0; w < threads / 32; ++w) {
      if (w < warp) before += room_.warp_values[w];
      total += room_.warp_values[w];
    }
    return before + inclusive - value;
  }

  /// As on the CPU, so that times 0 it is 0, however small the temperature.
  __device__ static float finite(float x) { return fminf(x, 3.402823466e38f); }

  // --- weights ------------------------------------------------------------------------------------------------
  __device__ float weight(float logit) const {
    return exp_of_negative(__fmul_rn(__fsub_rn(logit, best_), per_temperature_));
  }
  __device__ u64 mass(float logit) const { return static_cast<u64>(weight(logit) * mass_unit); }
  __device__ int bin(float logit) const {
    return static_cast<int>(fminf(__fmul_rn(__fsub_rn(best_, logit), bins_a_unit_), bins - 1));
  }

  // --- selection ----------------------------------------------------------------------------------------------
  __device__ void set_temperature(float temperature) { per_temperature_ = finite(__fdiv_rn(1.0f, temperature)); }
  __device__ void set_histogram(float temperature) {
    bins_a_unit_ = finite(static_cast<float>(bins - 1) / (histogram_depth * temperature));
    set_temperature(temperature);
    count_bins(0, no_rank - 1, 64);
    total_mass_ = reduce(block_ == 0 && threadIdx.x == 0 ? room_.mass_up_to[bins - 1] : 0, sum_of{});
    fresh_ = true;
  }

  /// Histogram of the ranks first .. last by (rank - first) >> shift; shift 64: of all, by bin(). The first block gets
  /// its running sums.
  __device__ void count_bins(u64 first, u64 last, int shift) {
    __syncthreads();
    for (int i = threadIdx.x; i < bins; i += threads)
      room_.counts[i] = room_.masses[0][i] = room_.masses[1][i] = room_.masses[2][i] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < size_; i += threads) {
      const float x = logits_[i];
      if (!(x > -INFINITY)) continue;
      int to = 0;
      if (shift == 64) {
        to = bin(x);
      } else {
        const u64 rank = rank_of(x, first_ + i);
        if (rank < first || rank > last) continue;
        to = static_cast<int>((rank - first) >> shift);
      }
      atomicAdd(&room_.counts[to], 1u);
      const u64 m = mass(x);
      for (int part = 0; part < 3; ++part)
        if (const u32 bits = static_cast<u32>(m >> part * part_bits) & (part < 2 ? (1u << part_bits) - 1 : ~0u))
          atomicAdd(&room_.masses[part][to], bits);
    }
    row_blocks::sync();
    constexpr int share = bins / blocks;
    if (threadIdx.x < share) {
      const int at = block_ * share + static_cast<int>(threadIdx.x);
      u64 count = 0, mass = 0;
      for (int b = 0; b < blocks; ++b) {
        const sample_room* other = row_blocks::room_of(room_, b);
        count += other->counts[at];
        for (int part = 0; part < 3; ++part) mass += static_cast<u64>(other->masses[part][at]) << part * part_bits;
      }
      sample_room* leader = row_blocks::room_of(room_, 0);
      leader->count_up_to[at] = static_cast<u32>(count);
      leader->mass_up_to[at] = mass;
    }
    row_blocks::sync();
    if (block_ != 0) return;
    constexpr int each = bins / threads;
    u64 counts[each], masses[each], total = 0, count = 0, mass = 0;
    for (int i = 0; i < each; ++i) {
      counts[i] = count += room_.count_up_to[threadIdx.x * each + i];
      masses[i] = mass += room_.mass_up_to[threadIdx.x * each + i];
    }
    count = exclusive_sum(count, total);
    mass = exclusive_sum(mass, total);
    for (int i = 0; i < each; ++i) {
      room_.count_up_to[threadIdx.x * each + i] = static_cast<u32>(count + counts[i]);
      room_.mass_up_to[threadIdx.x * each + i] = mass + masses[i];
    }
    __syncthreads();
  }

  /// found = {bin, tokens in it, count before it, mass before it} of the first bin whose running sum passes `target`;
  /// bin `bins`: none does. To be shared by share_found.
  template <bool ByCount>
  __device__ void find_bin(u64 target) {
    if (block_ == 0) {
      if (threadIdx.x == 0) room_.found[0] = bins;
      __syncthreads();
      for (int i = threadIdx.x; i < bins; i += threads) {
        const u64 count_before = i > 0 ? room_.count_up_to[i - 1] : 0,
                  mass_before = i > 0 ? room_.mass_up_to[i - 1] : 0;
        const u64 before = ByCount ? count_before : mass_before,
                  up_to = ByCount ? room_.count_up_to[i] : room_.mass_up_to[i];
        if (before <= target && target < up_to) {
          room_.found[0] = static_cast<u64>(i);
          room_.found[1] = room_.count_up_to[i] - count_before;
          room_.found[2] = count_before;
          room_.found[3] = mass_before;
        }
      }
      __syncthreads();
    }
    share_found();
  }

  /// The first token, best first, with which the running count or mass passes `target`. Tokens without mass at the end
  /// of the row are told apart only where `to_the_end` asks for it. Collective.
  template <bool ByCount>
  __device__ passing locate(u64 target, bool to_the_end) {
    if (!fresh_) count_bins(0, no_rank - 1, 64);
    fresh_ = true;
    find_bin<ByCount>(target);
    int at = static_cast<int>(shared_[0]);
    if (at == bins || (at == bins - 1 && !to_the_end)) return {};
    u64 count_before = shared_[2], mass_before = shared_[3];
    u64 inside = shared_[1];
    if (inside <= most_candidates) return pass_among<ByCount>(gather_bin(at), count_before, mass_before, target);
    u64 first = no_rank, last = 0;
    for (int i = threadIdx.x; i < size_; i += threads)
      if (const float x = logits_[i]; x > -INFINITY && bin(x) == at) {
        first = min(first, rank_of(x, first_ + i));
        last = max(last, rank_of(x, first_ + i));
      }
    first = reduce(first, least_of{}, no_rank);
    last = ~reduce(~last, least_of{}, no_rank);
    fresh_ = false;
    while (inside > most_candidates) {  // narrows 1,024 times a round; ids tell equal logits apart
      const int shift = max(0, 64 - __clzll(static_cast<long long>(last - first)) - 10);
      count_bins(first, last, shift);
      find_bin<ByCount>(target - (ByCount ? count_before : mass_before));
      first += shared_[0] << shift;
      last = min(last, first + ((u64{1} << shift) - 1));
      inside = shared_[1];
      count_before += shared_[2];
      mass_before += shared_[3];
    }
    return pass_among<ByCount>(gather(first, last), count_before, mass_before, target);
  }

  // --- candidates, in the first block -------------------------------------------------------------------------
  /// Collects those whose rank is in first .. last; returns how many.
  __device__ int gather(u64 first, u64 last) {
    return gather_where([&](float x, int id) {
      const u64 rank = rank_of(x, id);
      return rank >= first && rank <= last;
    });
  }
  __device__ int gather_bin(int wanted) {
    return gather_where([&](float x, int) { return bin(x) == wanted; });
  }
  template <class Wanted>
  __device__ int gather_where(Wanted wanted) {
    if (leads()) room_.gathered = 0;
    row_blocks::sync();
    sample_room* leader = row_blocks::room_of(room_, 0);
    for (int i = threadIdx.x; i < size_; i += threads) {
      const float x = logits_[i];
      if (!(x > -INFINITY) || !wanted(x, first_ + i)) continue;
      const u32 at = atomicAdd(&leader->gathered, 1u);
      if (at < most_candidates) leader->candidates[at] = rank_of(x, first_ + i);
    }
    row_blocks::sync();
    return block_ == 0 ? static_cast<int>(min(room_.gathered, u32{most_candidates})) : 0;
  }

  __device__ void sort_candidates(int count) {
    int size = 2;
    while (size < count) size *= 2;
    for (int i = count + threadIdx.x; i < size; i += threads) room_.candidates[i] = no_rank;
    for (int run = 2; run <= size; run *= 2)
      for (int step = run / 2; step > 0; step /= 2) {
        __syncthreads();
        for (int i = threadIdx.x; i < size / 2; i += threads) {
          const int low = (i & ~(step - 1)) * 2 | (i & (step - 1)), high = low | step;
          const u64 a = room_.candidates[low], b = room_.candidates[high];
          if ((a > b) == ((low & run) == 0)) {
            room_.candidates[low] = b;
            room_.candidates[high] = a;
          }
        }
      }
    __syncthreads();
  }

  template <bool ByCount>
  __device__ passing pass_among(int count, u64 count_before, u64 mass_before, u64 target) {
    if (block_ == 0) {
      sort_candidates(count);
      constexpr int each = most_candidates / threads;
      u64 masses[each] = {}, own = 0, total = 0;
      for (int i = 0; i < each; ++i) {
        const int at = static_cast<int>(threadIdx.x) * each + i;
        if (at < count) own += masses[i] = mass(logit_of(room_.candidates[at]));
      }
      u64 up_to = mass_before + exclusive_sum(own, total);
      for (int i = 0; i < each; ++i) {
        const int at = static_cast<int>(threadIdx.x) * each + i;
        const u64 before = up_to;
        up_to += masses[i];
        const bool passes =
            ByCount ? count_before + static_cast<u64>(at) == target : before <= target && target < up_to;
        if (at < count && passes) {
          room_.found[0] = room_.candidates[at];
          room_.found[1] = up_to;
        }
      }
      __syncthreads();
    }
    share_found();
    return {shared_[0], shared_[1]};
  }

  sample_room& room_;
  int block_, first_ = 0, size_ = 0;
  float* logits_;  ///< this block's slice
  int turn_ = 0;
  u64 total_mass_ = 0;
  u64 shared_[4] = {};
  float best_ = 0, per_temperature_ = 1, bins_a_unit_ = 1;
  bool fresh_ = false;
};

}  // namespace troupe::kernels::cuda::sampling
