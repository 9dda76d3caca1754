// Fills tiles from the file's rows and reads rows back from tiles: which family does it for which type. Plain code for
// every machine: it runs at memory speed. Knows no block layout and no product.
#include "kernels/cpu/packed_tiles.hpp"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/formats/tile_format.hpp"

namespace troupe::kernels {
namespace {

using memory::dtype;

const tile_format& format_of(dtype type) noexcept {
  switch (type) {
    case dtype::q4_0: return q4_0_tiles;
    case dtype::q4_1: return q4_1_tiles;
    case dtype::q5_0: return q5_0_tiles;
    case dtype::q5_1: return q5_1_tiles;
    case dtype::q8_0: return q8_0_tiles;
    case dtype::q2_k: return q2_k_tiles;
    case dtype::q3_k: return q3_k_tiles;
    case dtype::q4_k: return q4_k_tiles;
    case dtype::q5_k: return q5_k_tiles;
    case dtype::q6_k: return q6_k_tiles;
    case dtype::iq4_nl: return iq4_nl_tiles;
    case dtype::iq4_xs: return iq4_xs_tiles;
    case dtype::mxfp4: return mxfp4_tiles;
    case dtype::f16: return f16_tiles;
    case dtype::bf16: return bf16_tiles;
    default: return f32_tiles;
  }
}

}  // namespace

bool pack_tile(const tensor_view& source, std::int64_t first, std::byte* out) noexcept {
  const std::int64_t rows = std::min(tile_rows, source.rows - first);
  if (rows < tile_rows) std::memset(out, 0, static_cast<std::size_t>(tile_bytes(source.type, source.cols)));
  return format_of(source.type).pack(source, first, rows, out);
}

void read_tile_row(dtype type, const std::byte* tile, std::int64_t row, std::int64_t cols, float* out) noexcept {
  format_of(type).read_row(tile, row, cols, out);
}

}  // namespace troupe::kernels
