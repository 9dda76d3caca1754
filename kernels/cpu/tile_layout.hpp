// How tiles hold the quantised weight types: one row a type, from which packing, reading back and every product take
// all that differs between types. Knows no file layout and no instruction set.
//
// A tile is 16 rows, one group of columns after another. A group is 32 columns with their own d, or the 256 columns of
// a K type or of IQ4_XS:
//   d of the 16 rows in f16 (MXFP4: the exponent's byte); then m or dmin in f16 where there is one
//   and for each block of 32 columns
//     its weights as unsigned numbers u, low bits and then high bits, in vectors of 64 bytes: byte r*4 + j is of row r
//       8 low bits: 8 vectors; vector v holds column 4v+j
//       4 low bits: 4 vectors; vector v holds columns 4v+j (low nibble) and 16+4v+j (high nibble)
//       2 bits:     2 vectors, one for each 16 columns; bits 2v and 2v+1 belong to column 4v+j of the 16
//       1 bit:      1 vector; bit v belongs to column 4v+j
//     its scales, one byte a row: one or two for the block, then one for the offset (Q2_K: both nibbles of one byte)
// value = d * scale * (u - offset), or d * scale * u + m * scale' where there is an m; u by the codebook where there is
// one.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <type_traits>

#include "memory/tensor_view.hpp"

namespace troupe::kernels {

constexpr std::int64_t tile_rows = 16;
constexpr std::int64_t quant_block = 32;

/// The scales that blocks have beside their group's d.
enum class block_scales : std::uint8_t {
  none,
  bytes,        ///< one signed byte; has_min: and one for the offset
  half_bytes,   ///< a signed byte for each 16 columns
  half_nibbles  ///< for each 16 columns a byte: scale, and 16 * that of the offset
};

struct tile_layout {
  std::int32_t low_bits;    ///< 2, 4 or 8
  std::int32_t high_bits;   ///< 0, 1 or 2: above the low bits
  std::int32_t offset;      ///< of u
  std::int32_t largest;     ///< u
  std::int32_t blocks = 1;  ///< of 32 columns, that share d
  bool has_min = false;
  block_scales scales = block_scales::none;
  bool exponent_scale = false;                  ///< d is 2^(byte - 128)
  std::span<const std::uint8_t> codebook = {};  ///< empty, or 16 numbers u for the 4 low bits

  /// Parts of a block with a scale each.
  constexpr int halves() const {
    return scales == block_scales::half_bytes || scales == block_scales::half_nibbles ? 2 : 1;
  }
  constexpr std::int64_t header_bytes() const { return (exponent_scale ? 16 : 32) + (has_min ? 32 : 0); }
  constexpr std::int64_t low_bytes() const { return 64 * low_bits; }
  constexpr std::int64_t quant_bytes() const { return 64 * (low_bits + high_bits); }
  constexpr std::int64_t scale_bytes() const {
    if (scales == block_scales::none) return 0;
    return scales == block_scales::bytes && !has_min ? 16 : 32;
  }
  constexpr std::int64_t block_bytes() const { return quant_bytes() + scale_bytes(); }
  constexpr std::int64_t group_bytes() const { return header_bytes() + blocks * block_bytes(); }
};

/// IQ4_NL and IQ4_XS: value + 128.
inline constexpr std::array<std::uint8_t, 16> iq4_codebook{1,   24,  45,  63,  79,  93,  106, 118,
                                                           129, 141, 153, 166, 181, 197, 217, 241};
/// MXFP4: twice the value of an E2M1 number, + 12.
inline constexpr std::array<std::uint8_t, 16> e2m1_codebook{12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};

/// Of a quantised type.
constexpr tile_layout layout_of(memory::dtype type) noexcept {
  using memory::dtype;
  switch (type) {
    case dtype::q4_0: return {4, 0, 8, 15};
    case dtype::q4_1: return {4, 0, 0, 15, 1, true};
    case dtype::q5_0: return {4, 1, 16, 31};
    case dtype::q5_1: return {4, 1, 0, 31, 1, true};
    case dtype::q2_k: return {2, 0, 0, 3, 8, true, block_scales::half_nibbles};
    case dtype::q3_k: return {2, 1, 4, 7, 8, false, block_scales::half_bytes};
    case dtype::q4_k: return {4, 0, 0, 15, 8, true, block_scales::bytes};
    case dtype::q5_k: return {4, 1, 0, 31, 8, true, block_scales::bytes};
    case dtype::q6_k: return {4, 2, 32, 63, 8, false, block_scales::half_bytes};
    case dtype::iq4_nl: return {4, 0, 128, 241, 1, false, block_scales::none, false, iq4_codebook};
    case dtype::iq4_xs: return {4, 0, 128, 241, 8, false, block_scales::bytes, false, iq4_codebook};
    case dtype::mxfp4: return {4, 0, 12, 24, 1, false, block_scales::none, true, e2m1_codebook};
    default: return {8, 0, 128, 255};  // Q8_0
  }
}

template <memory::dtype... Types>
struct type_list {};

using quantised_types =
    type_list<memory::dtype::q4_0, memory::dtype::q4_1, memory::dtype::q5_0, memory::dtype::q5_1, memory::dtype::q8_0,
              memory::dtype::q2_k, memory::dtype::q3_k, memory::dtype::q4_k, memory::dtype::q5_k, memory::dtype::q6_k,
              memory::dtype::iq4_nl, memory::dtype::iq4_xs, memory::dtype::mxfp4>;

/// Calls work(integral_constant of the type). False, and no call, where the type is not quantised.
template <class Work, memory::dtype... Types>
constexpr bool with_quantised(memory::dtype type, Work&& work, type_list<Types...>) {
  return ((type == Types && (work(std::integral_constant<memory::dtype, Types>{}), true)) || ...);
}

}  // namespace troupe::kernels
