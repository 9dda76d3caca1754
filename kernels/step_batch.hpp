// What one step computes, as plain values: rows, their sequences, what to sample. Knows no device.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "kernels/sampling.hpp"

namespace troupe::kernels {

/// One sequence's rows within a step: rows [first_row, first_row + rows) are its tokens at positions
/// past, past + 1, ...; `blocks` is its block table and covers past + rows tokens.
struct sequence_rows {
  std::int32_t first_row = 0;
  std::int32_t rows = 0;
  std::int32_t past = 0;
  std::span<const std::int32_t> blocks;
};

/// The rows of one step. Each row belongs to exactly one sequence.
struct step_batch {
  std::span<const std::int32_t>
      ids;  ///< [T] in [0, vocabulary); after begin_step also -1 - s: what slot s sampled last
  std::span<const sequence_rows> sequences;
  std::span<const std::int32_t> sample_rows;        ///< [R] rows whose logits are wanted, ascending
  std::span<const sampling_row> sampling = {};      ///< [R], or empty: logits are wanted and no tokens
  std::span<const std::int32_t> sample_slots = {};  ///< [R] where the lane keeps the choice for later steps' ids
  std::span<sampled> picks = {};                    ///< [R] set when the step has ended
};

/// The ops of one step. For batches of equal sizes in which each sequence has one row, it must make the same calls.
using step_ops = std::function<void(const step_batch&)>;
using step_ticket = std::uint64_t;

/// The largest step of an owner of steps.
struct step_limits {
  std::int32_t rows = 0;
  std::int32_t sequences = 0;
  std::int32_t samples = 0;
  std::int32_t tokens = 0;  ///< of the longest sequence
  std::int32_t slots = 0;   ///< sample_slots lie in [0, slots)
};

/// What a lane keeps for the steps of one owner: a device's copy of the batch, captured graphs. The memory that the
/// steps' ops use must outlive it.
class step_space {
public:
  virtual ~step_space() = default;
};

}  // namespace troupe::kernels
