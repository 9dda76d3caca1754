// How one family of weight types gets into tiles and back: one file a family, one row a type in packed_tiles.cpp.
// Knows no product. Layouts of a tile: tile_layout.hpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "memory/tensor_view.hpp"

namespace troupe::kernels {

struct tile_format {
  /// Rows [first, first + rows) of `source`, at most 16, into the tile at `out`, whose other rows are zero already.
  /// False where a scale is NaN or infinite.
  bool (*pack)(const memory::tensor_view& source, std::int64_t first, std::int64_t rows, std::byte* out) noexcept;
  /// Row `row` of the tile as f32. Exact.
  void (*read_row)(const std::byte* tile, std::int64_t row, std::int64_t cols, float* out) noexcept;
};

// block_quants.cpp: 32 columns with one scale, and perhaps one offset.
extern const tile_format q4_0_tiles;
extern const tile_format q4_1_tiles;
extern const tile_format q5_0_tiles;
extern const tile_format q5_1_tiles;
extern const tile_format q8_0_tiles;
// k_quants.cpp: 256 columns with scales in two levels.
extern const tile_format q2_k_tiles;
extern const tile_format q3_k_tiles;
extern const tile_format q4_k_tiles;
extern const tile_format q5_k_tiles;
extern const tile_format q6_k_tiles;
// codebooks.cpp: nibbles that stand for the numbers of a table.
extern const tile_format iq4_nl_tiles;
extern const tile_format iq4_xs_tiles;
extern const tile_format mxfp4_tiles;
// floats.cpp
extern const tile_format f16_tiles;
extern const tile_format bf16_tiles;
extern const tile_format f32_tiles;

}  // namespace troupe::kernels
