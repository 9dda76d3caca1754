// Fills tiles from the file's rows and reads rows back from tiles. Plain code for every machine: it runs at memory
// speed. Block layouts of the file: the GGUF specification, "GGML quantization types". Knows no product.
#include "kernels/cpu/packed_tiles.hpp"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/half.hpp"

namespace troupe::kernels {
namespace {

using memory::dtype;

struct block_layout {
  std::int64_t file_bytes;    ///< one row's block in the file
  std::int64_t quant_offset;  ///< of the quants within it
  std::int64_t words;         ///< 32-bit words of quants a row
  std::int64_t halves;        ///< f16 numbers a row: d, or d and m
  std::uint32_t flip;         ///< turns the file's numbers into unsigned ones
  std::int64_t tile_bytes() const noexcept { return tile_rows * file_bytes; }
  std::int64_t quant_bytes() const noexcept { return tile_rows * 4 * words; }
};

constexpr block_layout layout_of(dtype type) noexcept {
  switch (type) {
    case dtype::q4_0:
      return {18, 2, 4, 1, 0};
    case dtype::q4_1:
      return {20, 4, 4, 2, 0};
    default:
      return {34, 2, 8, 1, 0x80808080};
  }
}

template <dtype Type>
bool pack_quantised(const tensor_view& source, std::int64_t first, std::int64_t rows, std::byte* out) noexcept {
  constexpr block_layout layout = layout_of(Type);
  std::uint32_t infinite = 0;
  for (std::int64_t block = 0; block < source.cols / quant_block; ++block, out += layout.tile_bytes()) {
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::byte* from = source.row_bytes(first + r) + block * layout.file_bytes;
      for (std::int64_t word = 0; word < layout.words; ++word) {
        std::uint32_t quants;
        std::memcpy(&quants, from + layout.quant_offset + 4 * word, 4);
        quants ^= layout.flip;
        std::memcpy(out + word * 64 + r * 4, &quants, 4);
      }
      for (std::int64_t half = 0; half < layout.halves; ++half) {
        std::uint16_t number;
        std::memcpy(&number, from + 2 * half, 2);
        infinite |= !f16_is_finite(number);
        std::memcpy(out + layout.quant_bytes() + half * 32 + r * 2, &number, 2);
      }
    }
  }
  return infinite == 0;
}

template <class Element>
void pack_floats(const tensor_view& source, std::int64_t first, std::int64_t rows, std::byte* out) noexcept {
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::byte* from = source.row_bytes(first + r);
    for (std::int64_t c = 0; c < source.cols; ++c)
      std::memcpy(out + (c * tile_rows + r) * static_cast<std::int64_t>(sizeof(Element)),
                  from + c * static_cast<std::int64_t>(sizeof(Element)), sizeof(Element));
  }
}

float read_half(const std::byte* from) noexcept {
  std::uint16_t bits;
  std::memcpy(&bits, from, 2);
  return f16_to_f32(bits);
}

template <dtype Type>
void read_quantised(const std::byte* tile, std::int64_t row, std::int64_t cols, float* out) noexcept {
  constexpr block_layout layout = layout_of(Type);
  for (std::int64_t block = 0; block < cols / quant_block; ++block, tile += layout.tile_bytes(), out += quant_block) {
    const float d = read_half(tile + layout.quant_bytes() + row * 2);
    for (std::int64_t i = 0; i < 4 * layout.words; ++i) {
      const int u = std::to_integer<int>(tile[i / 4 * 64 + row * 4 + i % 4]);
      if constexpr (Type == dtype::q8_0) {
        out[i] = d * static_cast<float>(u - 128);
      } else if constexpr (Type == dtype::q4_0) {
        out[i] = d * static_cast<float>((u & 15) - 8);
        out[i + 16] = d * static_cast<float>((u >> 4) - 8);
      } else {
        const float m = read_half(tile + layout.quant_bytes() + 32 + row * 2);
        out[i] = d * static_cast<float>(u & 15) + m;
        out[i + 16] = d * static_cast<float>(u >> 4) + m;
      }
    }
  }
}

}  // namespace

bool pack_tile(const tensor_view& source, std::int64_t first, std::byte* out) noexcept {
  const std::int64_t rows = std::min(tile_rows, source.rows - first);
  if (rows < tile_rows) std::memset(out, 0, static_cast<std::size_t>(tile_bytes(source.type, source.cols)));
  switch (source.type) {
    case dtype::q4_0:
      return pack_quantised<dtype::q4_0>(source, first, rows, out);
    case dtype::q4_1:
      return pack_quantised<dtype::q4_1>(source, first, rows, out);
    case dtype::q8_0:
      return pack_quantised<dtype::q8_0>(source, first, rows, out);
    case dtype::f16:
    case dtype::bf16:
      pack_floats<std::uint16_t>(source, first, rows, out);
      return true;
    case dtype::f32:
    case dtype::i32:
      pack_floats<std::uint32_t>(source, first, rows, out);
      return true;
  }
  return true;
}

void read_tile_row(dtype type, const std::byte* tile, std::int64_t row, std::int64_t cols, float* out) noexcept {
  switch (type) {
    case dtype::q4_0:
      return read_quantised<dtype::q4_0>(tile, row, cols, out);
    case dtype::q4_1:
      return read_quantised<dtype::q4_1>(tile, row, cols, out);
    case dtype::q8_0:
      return read_quantised<dtype::q8_0>(tile, row, cols, out);
    case dtype::f16:
      for (std::int64_t c = 0; c < cols; ++c) out[c] = read_half(tile + (c * tile_rows + row) * 2);
      return;
    case dtype::bf16:
      for (std::int64_t c = 0; c < cols; ++c) {
        std::uint16_t bits;
        std::memcpy(&bits, tile + (c * tile_rows + row) * 2, 2);
        out[c] = bf16_to_f32(bits);
      }
      return;
    case dtype::f32:
    case dtype::i32:
      for (std::int64_t c = 0; c < cols; ++c) std::memcpy(out + c, tile + (c * tile_rows + row) * 4, 4);
      return;
  }
}

}  // namespace troupe::kernels
