// Q4_0, Q4_1, Q8_0: blocks of 32 columns with an f16 scale. Block layouts of the file: the GGUF specification, "GGML
// quantization types". Knows no other family.
#include <cstring>

#include "kernels/cpu/formats/tile_format.hpp"
#include "kernels/cpu/half.hpp"
#include "kernels/cpu/packed_tiles.hpp"

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

const tile_format q4_0_tiles{pack_quantised<dtype::q4_0>, read_quantised<dtype::q4_0>};
const tile_format q4_1_tiles{pack_quantised<dtype::q4_1>, read_quantised<dtype::q4_1>};
const tile_format q8_0_tiles{pack_quantised<dtype::q8_0>, read_quantised<dtype::q8_0>};

}  // namespace troupe::kernels
