// What every layer of a step shares, made on the device by one small kernel at the step's start: the angles of each row
// and the lists of attention work, from the step's real lengths. Knows no tensor.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.hpp"
#include "kernels/cuda/kv_layout.hpp"
#include "kernels/cuda/step_tables.hpp"

namespace troupe::kernels::cuda {

/// A stretch of one sequence's KV that one decode item reads, for every KV head, with all that the item needs to know.
/// `slot` numbers its partial result; those of a sequence are neighbours, in order.
struct alignas(16) decode_split {
  std::int32_t first_block;  ///< index into step_tables::block_tables
  std::int32_t tokens;
  std::int32_t valid;  ///< the sequence's tokens from this split on, with this step's: those beyond `tokens` are others'
  std::int32_t row;
  std::int32_t sequence;
  std::int32_t slot;
  std::int32_t first_slot;  ///< of the sequence
  std::int32_t splits;      ///< of the sequence
};

/// `rows` query rows of one sequence, from its row `first` of this step.
struct alignas(16) prefill_tile {
  std::int32_t sequence;
  std::int32_t first;
  std::int32_t rows;
  std::int32_t past;
};

/// How long a split of a sequence is: a function of its own length alone, so that a sequence's bits do not depend on
/// its neighbours.
TROUPE_HOST_DEVICE inline std::int32_t split_tokens(std::int32_t length) {
  return length <= 2048 ? 128 : length <= 16384 ? 256 : 512;
}
TROUPE_HOST_DEVICE inline std::int32_t split_count(std::int32_t length) {
  const std::int32_t tokens = split_tokens(length);
  return (length + tokens - 1) / tokens;
}

/// Sequences with one row are decoded, those with more are prefilled.
struct step_plan {
  float2* angles = nullptr;         ///< [T][rope dims / 2] cosine, sine
  decode_split* splits = nullptr;   ///< whole splits first, then the shorter last ones
  prefill_tile* tiles = nullptr;    ///< those with the most keys first
  std::int32_t* counts = nullptr;   ///< [0] splits, [1] tiles
};

struct step_planning {
  const step_tables* tables = nullptr;
  const double* frequencies = nullptr;  ///< device [pairs]: base^(-2i / dims) / factors[i]
  std::int32_t pairs = 0;
  std::int32_t tile_rows = 0;
  step_plan plan;
};

/// Enough for any step of so many sequences and rows whose KV fits `kv_tokens`.
std::int64_t most_splits(std::int64_t sequences, std::int64_t kv_tokens);
std::int64_t most_tiles(std::int64_t sequences, std::int64_t rows, std::int64_t tile_rows);

/// One launch at a step's start. Up to 1,024 sequences.
void make_step_plan(const step_planning& what, cudaStream_t on);

}  // namespace troupe::kernels::cuda
