// What every layer of a step shares, made on the device by one small kernel at the step's start: the angles of each row
// and the lists of attention work, from the step's real lengths. Knows no tensor.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.hpp"
#include "kernels/cuda/kv_layout.hpp"
#include "kernels/cuda/shared_tables.hpp"
#include "kernels/cuda/step_tables.hpp"

namespace troupe::kernels::cuda {

/// A sequence with one row in this step.
struct alignas(16) decode_sequence {
  std::int32_t row;
  std::int32_t length;      ///< with this step's token, without what is read for several at once
  std::int32_t table;       ///< index of the first block of that into step_tables::block_tables
  std::int32_t first_slot;  ///< of its partial results: its splits', then the shared ones
  std::int32_t shared;      ///< how many of these there are
};

/// Where a block begins in the order (sequence, group of query heads, split), and how many splits it does.
struct alignas(16) decode_start {
  std::int32_t sequence, group, split, works;
};

constexpr std::int32_t most_decode_sequences = 1024;
constexpr std::int32_t most_decode_blocks = 512;

/// The decode work of a step: each block gets a stretch of it, equal in tokens but for a split.
struct decode_plan {
  decode_sequence sequences[most_decode_sequences];
  decode_start starts[most_decode_blocks];
  std::int32_t shared_slots[most_decode_sequences];  ///< of each of the step's sequences: the first of its shared results
};

/// `rows` query rows of one sequence, from its row `first` of this step.
struct alignas(16) prefill_tile {
  std::int32_t sequence;
  std::int32_t first;
  std::int32_t rows;
  std::int32_t past;
};

/// How long a split of a sequence is, as a power of two: a function of its own length alone, so that a sequence's bits do
/// not depend on its neighbours. What ends a split takes as long whatever its bytes: those of narrow K and V are longer.
TROUPE_HOST_DEVICE inline std::int32_t split_shift(std::int32_t length, bool narrow = false) {
  if (narrow) return length <= 16384 ? 9 : length <= 32768 ? 10 : 11;
  return length <= 2048 ? 7 : length <= 16384 ? 8 : length <= 32768 ? 9 : 10;
}
TROUPE_HOST_DEVICE inline std::int32_t split_tokens(std::int32_t length, bool narrow = false) { return 1 << split_shift(length, narrow); }
TROUPE_HOST_DEVICE inline std::int32_t split_count(std::int32_t length, bool narrow = false) {
  const std::int32_t shift = split_shift(length, narrow);
  return (length + (1 << shift) - 1) >> shift;
}

/// Sequences with fewer rows than `least_prefilled` are decoded, those with more are prefilled.
struct step_plan {
  float2* angles = nullptr;         ///< [T][rope dims / 2] cosine, sine
  decode_plan* decode = nullptr;
  prefill_tile* tiles = nullptr;    ///< those with the most keys first
  std::int32_t* counts = nullptr;   ///< [0] decode sequences, [1] tiles
};

struct step_planning {
  const step_tables* tables = nullptr;
  const double* frequencies = nullptr;  ///< device [pairs]: base^(-2i / dims) / factors[i]
  std::int32_t pairs = 0;
  std::int32_t tile_rows = 0;
  std::int32_t groups = 0;  ///< decode_groups
  std::int32_t least_prefilled = 2;  ///< rows of a sequence: 2, or 1: none is decoded
  bool narrow_splits = false;  ///< as splits_narrow says
  shared_tables shared;
  step_plan plan;
};

/// Query heads of one KV head are attended to in groups of up to eight; this many over all KV heads.
std::int32_t decode_groups(std::int32_t heads, std::int32_t kv_heads);
/// Blocks of a decode launch: as many as the device holds at once.
std::int32_t decode_blocks();

/// Enough for any step of so many sequences and rows whose KV fits `kv_tokens`.
std::int64_t most_splits(std::int64_t sequences, std::int64_t kv_tokens);
std::int64_t most_tiles(std::int64_t sequences, std::int64_t rows, std::int64_t tile_rows);

/// One launch at a step's start. Up to 1,024 sequences.
void make_step_plan(const step_planning& what, cudaStream_t on);

}  // namespace troupe::kernels::cuda
