// Sampling's passes over a row of logits that each instruction set provides, all with the same bits. They run on one
// thread. Knows no sampling and no row's parameters.
#pragma once

#include <cstdint>

namespace troupe::kernels {

/// Some of a row's tokens.
struct token_tally {
  std::uint64_t count = 0;
  std::uint64_t mass = 0;  ///< mass_of each weight: sample_passes.hpp
};

struct logit_range {
  float low;   ///< the first within
  float high;  ///< the first above
};

struct sampling_kernels {
  /// best[i] = the largest of run i of x[n]; NaN where the run holds a NaN or +inf. `run` is a multiple of 32.
  void (*best_of_runs)(const float* x, std::int64_t n, std::int64_t run, float* best);
  /// sums[b] = sum of e^((x - largest) * factor) over block b, where largest is no less than any x; returns the sum of
  /// them all. In one order and without contraction.
  double (*exponential_sums)(const float* x, std::int64_t n, float largest, float factor, float* sums);
  /// weights[i] = e^((x[i] - largest) * factor), with room for n filled up to a multiple of 16; returns about their
  /// sum, which alone may differ from set to set.
  double (*weigh)(const float* x, std::int64_t n, float largest, float factor, float* weights);
  /// Those with x >= limit.
  token_tally (*tally)(const float* x, const float* weights, std::int64_t n, float limit);
  /// The places, rising, of those within; returns how many. There is room for 16 more.
  std::int64_t (*gather)(const float* x, std::int64_t n, logit_range within, std::int32_t* places);
  /// The same of those within either range; and the mass above the first, above the second, and of all.
  std::int64_t (*survey)(const float* x, const float* weights, std::int64_t n, const logit_range (&within)[2],
                         std::uint64_t (&masses)[3], std::int32_t* places);
};

}  // namespace troupe::kernels
