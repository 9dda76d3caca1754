// K and V of 16 tokens of one KV head in one layer, as kernels read and write them. Knows no arena and no arithmetic.
//
// A number of most types is an integer times the scale of its token. Both products of attention, Q.K and P.V, are then
// integer dot products: exact, so that the order of their terms does not matter, and fast on every processor.
//   scales of K, bf16 [16] | scales of V, bf16 [16] | K [dim / n][16 tokens] of cells | V [16 / n][dim] of cells
// A cell holds the n numbers that follow each other in a dot product: dimensions of a token of K, tokens of a dimension
// of V. dim is the head's size rounded up to 16, the rest zero.
//
//   type        n  cell
//   i16         2  two int16
//   f16, bf16   1  the number, 2 bytes
//   q8_0        2  two int8
//   q4_0        8  two words of four nibbles: numbers 0, 2, 4, 6 and 1, 3, 5, 7; each the index of one of
//   narrow_numbers
//
// Heads of q8_0 and q4_0 are turned by a Hadamard matrix before they are rounded, which spreads numbers that stick out
// over their head, and queries and results likewise: Q.K is the same, and the matrix is its own inverse.
#pragma once

#include <cstdint>

#include "kernels/kv_type.hpp"
#include "kernels/lane.hpp"

namespace troupe::kernels {

class kv_unit {
public:
  static constexpr std::int32_t tokens = kv_shape::block_tokens;
  static constexpr std::int64_t k_scales = 0;
  static constexpr std::int64_t v_scales = 2 * tokens;
  static constexpr std::int64_t k = 4 * tokens;
  static constexpr std::int32_t most_dim = 512;  ///< that types other than i16 can have

  constexpr kv_unit(std::int32_t head_dim, kv_type type) noexcept : dim_(padded(head_dim)), type_(type) {}
  static constexpr std::int32_t padded(std::int32_t head_dim) noexcept { return (head_dim + 15) / 16 * 16; }
  constexpr std::int32_t dim() const noexcept { return dim_; }
  /// Byte offset of V.
  constexpr std::int64_t v() const noexcept { return k + numbers_bytes(); }
  constexpr std::int64_t bytes() const noexcept { return k + 2 * numbers_bytes(); }

  static constexpr std::int64_t cell_numbers(kv_type type) noexcept {
    return type == kv_type::q4_0 ? 8 : type == kv_type::f16 || type == kv_type::bf16 ? 1 : 2;
  }
  static constexpr std::int64_t cell_bytes(kv_type type) noexcept {
    return type == kv_type::i16 || type == kv_type::q4_0 ? 4 : 2;
  }
  /// Of the cell of a number, from the start of K or V.
  std::int64_t k_cell(std::int64_t token, std::int64_t d) const noexcept {
    return (d / cell_numbers(type_) * tokens + token) * cell_bytes(type_);
  }
  std::int64_t v_cell(std::int64_t token, std::int64_t d) const noexcept {
    return (token / cell_numbers(type_) * dim_ + d) * cell_bytes(type_);
  }

private:
  constexpr std::int64_t numbers_bytes() const noexcept {
    return std::int64_t{tokens} * dim_ * cell_bytes(type_) / cell_numbers(type_);
  }
  std::int32_t dim_;
  kv_type type_;
};

// Dot products stay within 32 bits: Q.K because a query and a key are at most this long as vectors (Cauchy-Schwarz) ...
constexpr float longest_vector = 46300.0f;
// ... and P.V because values are at most, and the weights of 128 tokens add up to at most:
constexpr float largest_value = 8191.0f;
constexpr float largest_weight_sum = 262000.0f;
constexpr float largest_int16 = 32767.0f;

constexpr float largest_narrow = 127.0f;  ///< of q8_0 and q4_0
/// What the nibbles of q4_0 stand for: the sixteen numbers that are nearest to normally distributed ones (Lloyd-Max).
constexpr std::int8_t narrow_numbers[16] = {-127, -96, -75, -58, -44, -31, -18, -6, 6, 18, 31, 44, 58, 75, 96, 127};

constexpr bool is_turned(kv_type type) noexcept { return type == kv_type::q8_0 || type == kv_type::q4_0; }
/// The numbers that are turned together.
constexpr std::int32_t turned_together(std::int32_t dim) noexcept { return dim & -dim; }

/// Tokens whose weights are made integers together, at absolute positions 0, 128, 256 ...
constexpr std::int32_t piece_units = 8;
constexpr std::int32_t piece_tokens = piece_units * kv_unit::tokens;

}  // namespace troupe::kernels
