// What the device is told of K and V that several sequences of a step have in common. Plain values; shared_reads makes
// them, step_buffers brings them to addresses that never change. Knows no head.
#pragma once

#include <cstdint>

namespace troupe::kernels::cuda {

/// Keys that are read once for the queries of some sequences: a work for each KV head.
struct alignas(16) shared_item {
  std::int32_t first_seat, seats;  ///< whose queries
  std::int32_t sequence;           ///< in whose block table the keys are looked up
  std::int32_t first, tokens;      ///< multiples of shared_piece
  std::int32_t split;              ///< of the stretch: where a seat's result goes, behind `result`
  std::int32_t unused[2];
};

/// A sequence among those that share a stretch.
struct alignas(8) shared_seat {
  std::int32_t sequence;
  std::int32_t result;  ///< its first of this stretch, among its shared ones
};

/// What is left for the sequence itself.
struct alignas(8) own_part {
  std::int32_t from;     ///< its first token that it reads alone; a multiple of shared_piece
  std::int32_t results;  ///< of splits of what it shares
};

constexpr std::int32_t shared_piece = 128;     ///< tokens
constexpr std::int32_t shared_tile_rows = 64;  ///< query rows of an item, sequences times heads of a KV head

/// Device pointers; all null where every sequence reads for itself.
struct shared_tables {
  const std::int32_t* items_there = nullptr;  ///< [1]
  const shared_item* items = nullptr;
  const shared_seat* seats = nullptr;
  const own_part* own = nullptr;  ///< [S]
  explicit operator bool() const noexcept { return own != nullptr; }
};

}  // namespace troupe::kernels::cuda
