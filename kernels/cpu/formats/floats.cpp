// F32, F16: 16 numbers for each column; BF16: 16 pairs for each two columns, as the bf16 dot product takes them. What
// is no number stays what it is. Knows no other family.
#include <bit>
#include <cstring>

#include "kernels/cpu/formats/row_words.hpp"
#include "kernels/cpu/formats/tile_format.hpp"
#include "kernels/cpu/half.hpp"
#include "kernels/cpu/packed_tiles.hpp"

namespace troupe::kernels {
namespace {

/// Where a column's number of a row lies in a tile whose columns are taken `Together` at a time.
template <std::int64_t Together>
constexpr std::int64_t place_of(std::int64_t column, std::int64_t row) noexcept {
  return (column / Together * tile_rows + row) * Together + column % Together;
}

/// One word of each row, which holds one column or two, at `out`.
template <class Element, std::int64_t Together>
void put_word(const row_words& words, std::byte* out) noexcept {
  if constexpr (sizeof(Element) * Together == 4) {
    std::memcpy(out, words.of, sizeof words.of);
  } else {
    Element columns[2][tile_rows];
    for (int r = 0; r < tile_rows; ++r) columns[0][r] = static_cast<Element>(words.of[r]);
    for (int r = 0; r < tile_rows; ++r) columns[1][r] = static_cast<Element>(words.of[r] >> 16);
    std::memcpy(out, columns, sizeof columns);
  }
}

template <class Element, std::int64_t Together>
bool pack_floats(const tensor_view& source, std::int64_t first, std::int64_t rows, std::byte* out) noexcept {
  constexpr std::int64_t size = sizeof(Element), four_words = 16 / size;
  static constexpr std::byte no_row[16] = {};
  block_rows at;
  for (int r = 0; r < tile_rows; ++r) at[r] = r < rows ? source.row_bytes(first + r) : no_row;
  std::int64_t column = 0;
  for (; column + four_words <= source.cols; column += four_words) {
    const auto words = load_words<4>(at, 0);
    for (int w = 0; w < 4; ++w)
      put_word<Element, Together>(words[w], out + place_of<Together>(column + w * four_words / 4, 0) * size);
    for (int r = 0; r < rows; ++r) at[r] += 16;
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::byte* from = source.row_bytes(first + r);
    for (std::int64_t c = column; c < source.cols; ++c)
      std::memcpy(out + place_of<Together>(c, r) * size, from + c * size, size);
    for (std::int64_t c = source.cols; c % Together != 0; ++c)
      std::memset(out + place_of<Together>(c, r) * size, 0, size);
  }
  return true;
}

template <class Element, std::int64_t Together, float (*ToFloat)(Element) noexcept>
void read_floats(const std::byte* tile, std::int64_t row, std::int64_t cols, float* out) noexcept {
  for (std::int64_t c = 0; c < cols; ++c) {
    Element bits;
    std::memcpy(&bits, tile + place_of<Together>(c, row) * static_cast<std::int64_t>(sizeof(Element)), sizeof(Element));
    out[c] = ToFloat(bits);
  }
}

float from_f16(std::uint16_t bits) noexcept { return f16_to_f32(bits); }
float from_bf16(std::uint16_t bits) noexcept { return bf16_to_f32(bits); }
float from_f32(std::uint32_t bits) noexcept { return std::bit_cast<float>(bits); }

}  // namespace

const tile_format f16_tiles{pack_floats<std::uint16_t, 1>, read_floats<std::uint16_t, 1, from_f16>};
const tile_format bf16_tiles{pack_floats<std::uint16_t, 2>, read_floats<std::uint16_t, 2, from_bf16>};
const tile_format f32_tiles{pack_floats<std::uint32_t, 1>, read_floats<std::uint32_t, 1, from_f32>};

}  // namespace troupe::kernels
