// The same 32-bit word of 16 rows, and the operations that take blocks apart in all rows at once: loops that compilers
// turn into vector instructions of whatever machine this is built for. Knows no type and no tile.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/tile_layout.hpp"

namespace troupe::kernels {

/// One block of each of 16 rows, as the file has them.
using block_rows = std::array<const std::byte*, tile_rows>;

struct row_words {
  alignas(64) std::uint32_t of[tile_rows];

  template <class Operation>
  static row_words each(Operation&& operation) noexcept {
    row_words out;
    for (int r = 0; r < tile_rows; ++r) out.of[r] = operation(r);
    return out;
  }
  friend row_words operator&(const row_words& a, std::uint32_t b) noexcept {
    return each([&](int r) { return a.of[r] & b; });
  }
  friend row_words operator|(const row_words& a, const row_words& b) noexcept {
    return each([&](int r) { return a.of[r] | b.of[r]; });
  }
  friend row_words operator^(const row_words& a, const row_words& b) noexcept {
    return each([&](int r) { return a.of[r] ^ b.of[r]; });
  }
  friend row_words operator^(const row_words& a, std::uint32_t b) noexcept {
    return each([&](int r) { return a.of[r] ^ b; });
  }
  friend row_words operator>>(const row_words& a, int bits) noexcept {
    return each([&](int r) { return a.of[r] >> bits; });
  }
  friend row_words operator<<(const row_words& a, int bits) noexcept {
    return each([&](int r) { return a.of[r] << bits; });
  }
};

/// Each byte of numbers of 6 bits, less 32: signed.
inline row_words less_32(const row_words& bytes) noexcept {
  return row_words::each([&](int r) { return ((bytes.of[r] | 0x80808080u) - 0x20202020u) ^ 0x80808080u; });
}

/// `Words` words of each row, beginning at byte `offset` of the blocks.
template <int Words>
inline std::array<row_words, Words> load_words(const block_rows& from, std::int64_t offset) noexcept {
  using four [[gnu::vector_size(16)]] = std::uint32_t;
  constexpr int in_fours = Words / 4 * 4;
  std::array<row_words, Words> out;
  for (int word = 0; word < in_fours; word += 4) {
    for (int r = 0; r < tile_rows; r += 4) {  // four rows by four words, turned
      four rows[4];
      for (int i = 0; i < 4; ++i) std::memcpy(&rows[i], from[r + i] + offset + 4 * word, 16);
      const four a = __builtin_shufflevector(rows[0], rows[1], 0, 4, 1, 5);
      const four b = __builtin_shufflevector(rows[2], rows[3], 0, 4, 1, 5);
      const four c = __builtin_shufflevector(rows[0], rows[1], 2, 6, 3, 7);
      const four d = __builtin_shufflevector(rows[2], rows[3], 2, 6, 3, 7);
      const four turned[4] = {__builtin_shufflevector(a, b, 0, 1, 4, 5), __builtin_shufflevector(a, b, 2, 3, 6, 7),
                              __builtin_shufflevector(c, d, 0, 1, 4, 5), __builtin_shufflevector(c, d, 2, 3, 6, 7)};
      for (int i = 0; i < 4; ++i) std::memcpy(&out[word + i].of[r], &turned[i], 16);
    }
  }
  for (int word = in_fours; word < Words; ++word)
    for (int r = 0; r < tile_rows; ++r) std::memcpy(&out[word].of[r], from[r] + offset + 4 * word, 4);
  return out;
}

}  // namespace troupe::kernels
