// Weights in tiles of 16 rows, k-block after k-block, as the product kernels read them: one layout for every
// instruction set. Knows how to fill a tile and how to read a row back; knows no product.
//
// Quantised types: tile_layout.hpp. F32, F16: 16 numbers for each column; BF16: 16 pairs for each two columns, the last
// one padded. Rows that pad the last tile are zero.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/cpu/tile_layout.hpp"
#include "kernels/lane.hpp"
#include "memory/buffer.hpp"
#include "memory/mapped_file.hpp"
#include "memory/tensor_view.hpp"

namespace troupe::kernels {

constexpr bool is_quantised(memory::dtype type) noexcept { return memory::info(type).block > 1; }
constexpr std::int64_t tiles_of(std::int64_t rows) noexcept { return (rows + tile_rows - 1) / tile_rows; }
/// Those of 16 rows of the file; up to 4 % more for types whose scales the file packs into 6 bits.
constexpr std::int64_t tile_bytes(memory::dtype type, std::int64_t cols) noexcept {
  if (type == memory::dtype::bf16) return tile_rows * memory::row_size(type, (cols + 1) / 2 * 2);
  if (!is_quantised(type)) return tile_rows * memory::row_size(type, cols);
  const tile_layout layout = layout_of(type);
  return cols / quant_block / layout.blocks * layout.group_bytes();
}

/// Rows [first, first + 16) of `source` (fewer at its end) as one tile at `out`, tile_bytes long.
/// False where a scale is NaN or infinite.
bool pack_tile(const tensor_view& source, std::int64_t first, std::byte* out) noexcept;

/// Row `row` of 16 of a tile, as f32. Exact.
void read_tile_row(memory::dtype type, const std::byte* tile, std::int64_t row, std::int64_t cols, float* out) noexcept;

/// One of the stacked parts of a matrix.
struct packed_part {
  tensor_view source;                         ///< the part as the file has it; read after packing only if tiles is null
  const memory::mapped_file* file = nullptr;  ///< where the source lies; null: in memory
  const std::byte* tiles = nullptr;           ///< null: not repacked, tiles are filled anew for each product
  std::int64_t first_row = 0;                 ///< of the stacked matrix
  std::int64_t first_tile = 0;
};

class cpu_matrix final : public packed_matrix {
public:
  std::vector<packed_part> parts;
  std::int64_t tiles = 0;
  bool alike = false;  ///< several parts, all of one height
  bool any_quantised = false;
  bool any_bf16 = false;
  bool any_float = false;  ///< F16 or F32
  memory::buffer storage;
};

}  // namespace troupe::kernels
