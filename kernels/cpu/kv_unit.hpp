// K and V of 16 tokens of one KV head in one layer, as kernels read and write them. Knows no arena and no arithmetic.
//
// A number is an integer times the scale of its token. Both products of attention, Q.K and P.V, are then integer dot
// products: exact, so that the order of their terms does not matter, and fast on every processor.
//   scales of K, bf16 [16] | scales of V, bf16 [16] | K [dim / 2][16][2] | V [8][dim][2]
// What one step of a dot product multiplies lies side by side: two dimensions of a token of K, two tokens of a
// dimension of V. dim is the head's size rounded up to 16, the rest zero.
#pragma once

#include <cstdint>

#include "kernels/lane.hpp"

namespace troupe::kernels {

class kv_unit {
public:
  static constexpr std::int32_t tokens = kv_shape::block_tokens;
  static constexpr std::int64_t k_scales = 0;
  static constexpr std::int64_t v_scales = 2 * tokens;
  static constexpr std::int64_t k = 4 * tokens;

  explicit constexpr kv_unit(std::int32_t head_dim) noexcept : dim_((head_dim + 15) / 16 * 16) {}
  constexpr std::int32_t dim() const noexcept { return dim_; }
  /// Byte offset of V.
  constexpr std::int64_t v() const noexcept { return k + 2ll * tokens * dim_; }
  constexpr std::int64_t bytes() const noexcept { return k + 4ll * tokens * dim_; }

private:
  std::int32_t dim_;
};

// Dot products stay within 32 bits: Q.K because a query and a key are at most this long as vectors (Cauchy-Schwarz) ...
constexpr float longest_vector = 46300.0f;
// ... and P.V because values are at most, and the weights of 128 tokens add up to at most:
constexpr float largest_value = 8191.0f;
constexpr float largest_weight_sum = 262000.0f;
constexpr float largest_int16 = 32767.0f;

/// Tokens whose weights are made integers together, at absolute positions 0, 128, 256 ...
constexpr std::int32_t piece_units = 8;
constexpr std::int32_t piece_tokens = piece_units * kv_unit::tokens;

}  // namespace troupe::kernels
