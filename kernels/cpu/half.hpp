// f16 and bf16 to and from f32, in plain integer arithmetic (IEEE 754-2008, round to nearest even).
// Knows no instruction set: vector kernels use the machine's own conversions, which give the same bits.
#pragma once

#include <bit>
#include <cstdint>

namespace troupe::kernels {

inline float f16_to_f32(std::uint16_t half) noexcept {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000) << 16;
  const std::uint32_t exponent = half >> 10 & 0x1f;
  const std::uint32_t mantissa = half & 0x3ff;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000 | mantissa << 13);
  if (exponent != 0) return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
  const float small = static_cast<float>(mantissa) * 0x1p-24f;  // exact: a subnormal half is a normal float
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(small) | sign);
}

inline std::uint16_t f32_to_f16(float value) noexcept {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint16_t sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000);
  const std::uint32_t rest = bits & 0x7fffffff;
  if (rest > 0x7f800000) return static_cast<std::uint16_t>(sign | 0x7e00);
  if (rest >= 0x477ff000) return static_cast<std::uint16_t>(sign | 0x7c00);  // rounds to 65536 or above
  if (rest < 0x38800000) {
    // Adding 0.5 leaves the subnormal's integer in the low bits, rounded by the addition itself.
    const float shifted = std::bit_cast<float>(rest) + 0.5f;
    return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3f000000));
  }
  const std::uint32_t odd = rest >> 13 & 1;
  return static_cast<std::uint16_t>(sign | (rest - 0x38000000 + 0xfff + odd) >> 13);
}

inline float bf16_to_f32(std::uint16_t half) noexcept {
  return std::bit_cast<float>(static_cast<std::uint32_t>(half) << 16);
}

constexpr bool f16_is_finite(std::uint16_t half) noexcept { return (half & 0x7c00) != 0x7c00; }

}  // namespace troupe::kernels
