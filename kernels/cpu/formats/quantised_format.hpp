// Rows of quantised types into a tile and back, one row's group at a time: a family says what a group's numbers are, this
// where they go (tile_layout.hpp). Knows no file layout.
#pragma once

#include <cstring>

#include "kernels/cpu/formats/tile_format.hpp"
#include "kernels/cpu/tile_reading.hpp"

namespace troupe::kernels {

/// One row of one group of a tile.
template <memory::dtype Type>
class tile_writer {
public:
  static constexpr tile_layout layout = layout_of(Type);

  tile_writer(std::byte* group, std::int64_t row) : group_(group), row_(row) {}

  /// These copy a number of the file. False: it is NaN or infinite.
  bool d(const std::byte* half) const noexcept { return put_half(half, 0); }
  bool m(const std::byte* half) const noexcept { return put_half(half, 32); }
  bool exponent(std::byte e) const noexcept {
    group_[row_] = e;
    return e != std::byte{255};
  }
  /// Four bytes of the block's vector `vector`.
  void quants(std::int64_t block, std::int64_t vector, std::uint32_t four) const noexcept {
    std::memcpy(block_start(block) + vector * 64 + row_ * 4, &four, 4);
  }
  void scale(std::int64_t block, std::int64_t at, std::uint8_t number) const noexcept {
    block_start(block)[layout.quant_bytes() + at * tile_rows + row_] = std::byte{number};
  }

private:
  std::byte* block_start(std::int64_t block) const noexcept {
    return group_ + layout.header_bytes() + block * layout.block_bytes();
  }
  bool put_half(const std::byte* from, std::int64_t at) const noexcept {
    std::uint16_t number;
    std::memcpy(&number, from, 2);
    std::memcpy(group_ + at + row_ * 2, &number, 2);
    return f16_is_finite(number);
  }

  std::byte* group_;
  std::int64_t row_;
};

/// `words` words of 32 bits from unaligned bytes.
template <int Words>
std::array<std::uint32_t, Words> load_words(const std::byte* from) noexcept {
  std::array<std::uint32_t, Words> words;
  std::memcpy(words.data(), from, sizeof words);
  return words;
}

template <memory::dtype Type, auto Write>
bool pack_quantised(const memory::tensor_view& source, std::int64_t first, std::int64_t rows, std::byte* out) noexcept {
  constexpr tile_layout layout = layout_of(Type);
  constexpr memory::dtype_info file = memory::info(Type);
  static_assert(file.block == layout.blocks * quant_block);
  bool finite = true;
  for (std::int64_t group = 0; group < source.cols / file.block; ++group, out += layout.group_bytes())
    for (std::int64_t r = 0; r < rows; ++r)
      finite &= Write(source.row_bytes(first + r) + group * file.block_bytes, tile_writer<Type>(out, r));
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

/// The format whose groups `Write` writes: bool(const std::byte* of the file's block, tile_writer), false as pack's.
template <memory::dtype Type, auto Write>
inline constexpr tile_format quantised_format{pack_quantised<Type, Write>, read_quantised<Type>};

}  // namespace troupe::kernels
