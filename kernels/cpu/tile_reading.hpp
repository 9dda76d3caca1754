// One row of a quantised tile, block by block, in plain code: what reading back and the scalar product share. Knows no
// product. Only for files compiled for every machine.
#pragma once

#include <algorithm>
#include <bit>
#include <cstring>

#include "kernels/cpu/half.hpp"
#include "kernels/cpu/tile_layout.hpp"

namespace troupe::kernels {
namespace {

/// Of one row and block: value = d[half] * (u - offset) + m[half].
struct row_scales {
  float d[2] = {};
  float m[2] = {};
};

inline float read_half(const std::byte* from) noexcept {
  std::uint16_t bits;
  std::memcpy(&bits, from, 2);
  return f16_to_f32(bits);
}

inline float read_exponent(std::byte from) noexcept {
  const auto bits = std::max(std::to_integer<std::uint32_t>(from) << 23, 0x00400000u);
  return 0.5f * std::bit_cast<float>(bits);  // 2^(byte - 128), also where that is subnormal
}

/// The weights u of one row of a block.
template <memory::dtype Type>
inline void read_quants(const std::byte* block, std::int64_t row, std::uint8_t (&u)[quant_block]) noexcept {
  constexpr tile_layout layout = layout_of(Type);
  const std::byte* low = block + row * 4;
  const std::byte* high = low + layout.low_bytes();
  for (std::int64_t i = 0; i < quant_block; ++i) {
    const std::int64_t v = i / 4, j = i % 4;
    std::uint32_t bits = 0;
    if constexpr (layout.low_bits == 8) bits = std::to_integer<std::uint32_t>(low[v * 64 + j]);
    if constexpr (layout.low_bits == 4) bits = std::to_integer<std::uint32_t>(low[v % 4 * 64 + j]) >> v / 4 * 4 & 15;
    if constexpr (layout.low_bits == 2) bits = std::to_integer<std::uint32_t>(low[v / 4 * 64 + j]) >> v % 4 * 2 & 3;
    if constexpr (layout.high_bits == 1) bits |= (std::to_integer<std::uint32_t>(high[j]) >> v & 1) << layout.low_bits;
    if constexpr (layout.high_bits == 2)
      bits |= (std::to_integer<std::uint32_t>(high[v / 4 * 64 + j]) >> v % 4 * 2 & 3) << layout.low_bits;
    u[i] = layout.codebook.empty() ? static_cast<std::uint8_t>(bits) : layout.codebook[bits];
  }
}

/// The scales of one row of the group's block `block`.
template <memory::dtype Type>
inline row_scales read_scales(const std::byte* group, std::int64_t block, std::int64_t row) noexcept {
  constexpr tile_layout layout = layout_of(Type);
  const float d = layout.exponent_scale ? read_exponent(group[row]) : read_half(group + row * 2);
  const float m = layout.has_min ? read_half(group + 32 + row * 2) : 0.0f;
  const std::byte* scales = group + layout.header_bytes() + block * layout.block_bytes() + layout.quant_bytes() + row;
  const auto number = [scales](int at) { return static_cast<float>(std::to_integer<std::int8_t>(scales[at])); };
  const auto nibble = [scales](int at, int shift) {
    return static_cast<float>(std::to_integer<int>(scales[at]) >> shift & 15);
  };
  if constexpr (layout.scales == block_scales::bytes)
    return {{d * number(0)}, {layout.has_min ? -(m * number(16)) : 0.0f}};
  if constexpr (layout.scales == block_scales::half_bytes) return {{d * number(0), d * number(16)}, {}};
  if constexpr (layout.scales == block_scales::half_nibbles)
    return {{d * nibble(0, 0), d * nibble(16, 0)}, {-(m * nibble(0, 4)), -(m * nibble(16, 4))}};
  return {{d}, {m}};
}

}  // namespace
}  // namespace troupe::kernels
