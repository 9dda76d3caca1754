// Quantised rows into a tile, a group of columns at a time, and back: a family says what a group's numbers are, this
// where they go (tile_layout.hpp). Knows no file layout.
#pragma once

#include <cstring>

#include "kernels/cpu/formats/row_words.hpp"
#include "kernels/cpu/formats/tile_format.hpp"
#include "kernels/cpu/tile_reading.hpp"

namespace troupe::kernels {

/// One group of a tile, of 16 rows.
template <memory::dtype Type>
class tile_writer {
public:
  static constexpr tile_layout layout = layout_of(Type);

  explicit tile_writer(std::byte* group) : group_(group) {}

  /// These copy numbers of the file, always all of them. False: one is NaN or infinite.
  bool d(const block_rows& from, std::int64_t offset) const noexcept {
    return put_halves(row_words::each([&](int r) {
                        std::uint16_t half;
                        std::memcpy(&half, from[r] + offset, 2);
                        return half;
                      }),
                      0);
  }
  bool d_and_m(const block_rows& from, std::int64_t offset) const noexcept {
    const row_words both = load_words<1>(from, offset)[0];
    const bool finite = put_halves(both, 0);
    return put_halves(both >> 16, 32) && finite;
  }
  bool exponent(const block_rows& from, std::int64_t offset) const noexcept {
    bool finite = true;
    for (int r = 0; r < tile_rows; ++r) {
      group_[r] = from[r][offset];
      finite &= from[r][offset] != std::byte{255};
    }
    return finite;
  }
  /// The block's vector `vector`.
  void quants(std::int64_t block, std::int64_t vector, const row_words& fours) const noexcept {
    std::memcpy(block_start(block) + vector * 64, fours.of, 64);
  }
  /// The low bytes of `numbers`.
  void scale(std::int64_t block, std::int64_t at, const row_words& numbers) const noexcept {
    std::uint8_t bytes[tile_rows];
    for (int r = 0; r < tile_rows; ++r) bytes[r] = static_cast<std::uint8_t>(numbers.of[r]);
    std::memcpy(block_start(block) + layout.quant_bytes() + at * tile_rows, bytes, sizeof bytes);
  }

private:
  std::byte* block_start(std::int64_t block) const noexcept {
    return group_ + layout.header_bytes() + block * layout.block_bytes();
  }
  /// The low halves.
  bool put_halves(const row_words& from, std::int64_t at) const noexcept {
    std::uint16_t numbers[tile_rows];
    for (int r = 0; r < tile_rows; ++r) numbers[r] = static_cast<std::uint16_t>(from.of[r]);
    std::memcpy(group_ + at, numbers, sizeof numbers);
    unsigned faulty = 0;
    for (int r = 0; r < tile_rows; ++r) faulty |= f16_is_finite(numbers[r]) ? 0u : 1u;
    return faulty == 0;
  }

  std::byte* group_;
};

template <memory::dtype Type, auto Write>
bool pack_quantised(const memory::tensor_view& source, std::int64_t first, std::int64_t rows, std::byte* out) noexcept {
  constexpr tile_layout layout = layout_of(Type);
  constexpr memory::dtype_info file = memory::info(Type);
  static_assert(file.block == layout.blocks * quant_block);
  static constexpr std::byte no_row[file.block_bytes] = {};
  block_rows at;
  for (int r = 0; r < tile_rows; ++r) at[r] = r < rows ? source.row_bytes(first + r) : no_row;
  bool finite = true;
  // The next tile's rows are fetched meanwhile: sixteen short streams are more than a processor foresees.
  const bool more = first + 2 * tile_rows <= source.rows;
  const std::byte* next = more ? source.row_bytes(first + tile_rows) : nullptr;
  for (std::int64_t group = 0; group < source.cols / file.block; ++group, out += layout.group_bytes()) {
    for (std::int64_t line = 0; more && line < tile_rows * file.block_bytes; line += 64)
      __builtin_prefetch(next + line);
    if (more) next += tile_rows * file.block_bytes;
    finite &= Write(at, tile_writer<Type>(out));
    for (int r = 0; r < rows; ++r) at[r] += file.block_bytes;
  }
  return finite;
}

template <memory::dtype Type>
void read_quantised(const std::byte* tile, std::int64_t row, std::int64_t cols, float* out) noexcept {
  constexpr tile_layout layout = layout_of(Type);
  std::uint8_t u[quant_block];
  for (std::int64_t block = 0; block < cols / quant_block; ++block, out += quant_block) {
    const std::byte* group = tile + block / layout.blocks * layout.group_bytes();
    const std::int64_t in_group = block % layout.blocks;
    read_quants<Type>(group + layout.header_bytes() + in_group * layout.block_bytes(), row, u);
    const row_scales scales = read_scales<Type>(group, in_group, row);
    for (std::int64_t i = 0; i < quant_block; ++i) {
      const std::int64_t half = i * layout.halves() / quant_block;
      out[i] = scales.d[half] * static_cast<float>(u[i] - layout.offset);
      if constexpr (layout.has_min) out[i] += scales.m[half];
    }
  }
}

/// The format whose groups `Write` writes: bool(const block_rows&, tile_writer<Type>), false as pack's.
template <memory::dtype Type, auto Write>
inline constexpr tile_format quantised_format{pack_quantised<Type, Write>, read_quantised<Type>};

}  // namespace troupe::kernels
