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
  std::int32_t length;       ///< with this step's token, without what is read for several at once
  std::int32_t table;        ///< index of the first block of that into step_tables::block_tables
  std::int32_t shared_slot;  ///< of its first result of what is read for several at once
  std::int32_t shared;       ///< how many of these there are
  std::int32_t unused[3];
};

/// A pair of a sequence (of `by_length`) and a group of query heads; or how far it is from one to another.
struct alignas(4) pair_number {
  std::int16_t sequence, group;
};

/// What one block of decode attention does: so many tiles of 16 tokens of pairs of a sequence and a group of query
/// heads. Those are counted sequence by sequence, the longest first. A pair that several blocks divide is told by the
/// first of them and by how many they are.
struct alignas(16) decode_stretch {
  pair_number pair;                      ///< where it begins
  std::int32_t tile, tiles;              ///< of that pair, and how many there are; none: tiles is 0
  pair_number step, other_step;          ///< from a pair to the next, and from that to its next, in turn
  std::int32_t head_first, head_blocks;  ///< who does the pair with which it begins, where that began before
  std::int32_t tail_blocks;              ///< who does the pair with which it ends, where that began here and goes on
  decode_sequence of;                    ///< of its first tile
  std::int32_t blocks[16];               ///< of its first tiles, as far as they are of one pair
};
static_assert(sizeof(decode_stretch) == 128);  // a warp's load

constexpr std::int32_t most_decode_sequences = 1024;
constexpr std::int32_t most_decode_blocks = 512;

struct decode_plan {
  decode_sequence sequences[most_decode_sequences];  ///< in the step's order
  decode_sequence by_length[most_decode_sequences];
  decode_stretch stretches[most_decode_blocks];
  std::int32_t
      shared_slots[most_decode_sequences];  ///< of each of the step's sequences: the first of its shared results
};

/// `rows` query rows of one sequence, from its row `first` of this step.
struct alignas(16) prefill_tile {
  std::int32_t sequence;
  std::int32_t first;
  std::int32_t rows;
  std::int32_t past;
};

/// Sequences with fewer rows than `least_prefilled` are decoded, those with more are prefilled.
struct step_plan {
  float2* angles = nullptr;  ///< [T][rope dims / 2] cosine, sine
  decode_plan* decode = nullptr;
  prefill_tile* tiles = nullptr;   ///< those with the most keys first
  std::int32_t* counts = nullptr;  ///< [0] decode sequences, [1] tiles
};

struct step_planning {
  const step_tables* tables = nullptr;
  const double* frequencies = nullptr;  ///< device [pairs]: base^(-2i / dims) / factors[i]
  std::int32_t pairs = 0;
  std::int32_t tile_rows = 0;
  std::int32_t groups = 0;           ///< decode_groups
  std::int32_t least_prefilled = 2;  ///< rows of a sequence: 2, or 1: none is decoded
  bool in_clusters = false;          ///< as decodes_in_clusters says, if nothing is shared
  shared_tables shared;
  step_plan plan;
};

/// Query heads of one KV head are attended to in groups of up to eight; this many over all KV heads.
std::int32_t decode_groups(std::int32_t heads, std::int32_t kv_heads);
/// Blocks of a decode launch: as many as the device, or the step's part of it, holds at once.
std::int32_t decode_blocks(std::int32_t processors = 0);
constexpr std::int32_t decode_cluster_blocks = 8;

/// Enough for any step of so many sequences and rows.
std::int64_t most_tiles(std::int64_t sequences, std::int64_t rows, std::int64_t tile_rows);

/// One launch at a step's start. Up to 1,024 sequences.
void make_step_plan(const step_planning& what, cudaStream_t on);

}  // namespace troupe::kernels::cuda
