// Weights in tiles of 16 rows, k-block after k-block, as the product kernels read them: one layout for every
// instruction set. Knows how to fill a tile and how to read a row back; knows no product.
//
// A quantised block of 32 columns of 16 rows, all weights as unsigned numbers u with value = d * u + m:
//   4 bits: 256 bytes; byte v*64 + r*4 + j holds u of row r, column 4v+j (low nibble) and 16+4v+j (high nibble)
//   8 bits: 512 bytes; byte v*64 + r*4 + j holds u of row r, column 4v+j
//   then d of the 16 rows in f16, and for Q4_1 m of the 16 rows in f16.
// m is -8d for Q4_0 and -128d for Q8_0 (u = q + 128). F32, F16: 16 numbers for each column; BF16: 16 pairs
// for each two columns, the last one padded. A tile has the bytes of 16 rows of the file. Rows that pad the last tile are zero.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/lane.hpp"
#include "memory/buffer.hpp"
#include "memory/tensor_view.hpp"

namespace troupe::kernels {

constexpr std::int64_t tile_rows = 16;
constexpr std::int64_t quant_block = 32;

constexpr bool is_quantised(memory::dtype type) noexcept { return memory::info(type).block > 1; }
constexpr std::int64_t tiles_of(std::int64_t rows) noexcept { return (rows + tile_rows - 1) / tile_rows; }
constexpr std::int64_t tile_bytes(memory::dtype type, std::int64_t cols) noexcept {
  return tile_rows * memory::row_size(type, type == memory::dtype::bf16 ? (cols + 1) / 2 * 2 : cols);
}

/// Rows [first, first + 16) of `source` (fewer at its end) as one tile at `out`, tile_bytes long.
/// False where a scale is NaN or infinite.
bool pack_tile(const tensor_view& source, std::int64_t first, std::byte* out) noexcept;

/// Row `row` of 16 of a tile, as f32. Exact.
void read_tile_row(memory::dtype type, const std::byte* tile, std::int64_t row, std::int64_t cols, float* out) noexcept;

/// One of the stacked parts of a matrix.
struct packed_part {
  tensor_view source;                ///< the part as the file has it; read after packing only if tiles is null
  const std::byte* tiles = nullptr;  ///< null: not repacked, tiles are filled anew for each product
  std::int64_t first_row = 0;        ///< of the stacked matrix
  std::int64_t first_tile = 0;
};

class cpu_matrix final : public packed_matrix {
public:
  std::vector<packed_part> parts;
  std::int64_t tiles = 0;
  bool any_quantised = false;
  bool any_bf16 = false;
  memory::buffer storage;
};

}  // namespace troupe::kernels
