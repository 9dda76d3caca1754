// One row of logits to one token: penalties, temperature, truncation, choice. Knows no batch and no thread.
// The result is a pure function of its arguments, bit for bit, on every instruction set.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cpu/kernel_set.hpp"
#include "kernels/cpu/row_selection.hpp"
#include "kernels/sampling.hpp"

namespace troupe::kernels {

/// Philox 4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", 2011).
std::array<std::uint32_t, 4> philox(std::uint64_t key, std::uint64_t counter) noexcept;

/// Reused between calls so that sampling allocates nothing once warm. One per thread.
struct sample_scratch {
  const kernel_set* kernels = &scalar_kernels();  ///< for the passes over a whole row
  struct candidate {
    float logit;
    std::int32_t id;
  };
  std::vector<float> run_best;  ///< the largest of each run of 128
  std::vector<float> order;     ///< room for a selection
  std::vector<float> block_sum;
  std::vector<candidate> candidates;
  std::vector<float> kept;        ///< logits of the row that are enough to look at
  std::vector<std::int32_t> ids;  ///< theirs
  row_selection selection;
};

/// `logits` is overwritten with the penalised ones. `run_best` is what best_of_runs gives for them before that
/// (row_maxima.hpp); then only runs are read that can hold a candidate. Empty: a pass over the row finds it. A full row
/// of exponentials only where the whole distribution is wanted (neither top_k nor min_p alone, or log-probabilities).
sampled sample_row(std::span<float> logits, const sampling_row& how, sample_scratch& scratch,
                   std::span<const float> run_best = {});

}  // namespace troupe::kernels
