// What sampling's passes over a row share with each instruction set's text of them: the size of a block, one
// exponential, and what a weight counts. Knows no sampling.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

namespace troupe::kernels {

constexpr std::int64_t sample_block = 32;  ///< of exponential sums: their order of adding
constexpr std::int64_t sample_run = 128;   ///< of maxima that the head finds: a few blocks

/// e^x for x <= 0, relative error under 2e-7; below -87 it is 0. Plain arithmetic in a fixed order, so that every
/// instruction set gives the same bits; written so that compilers vectorise loops over it. 2^n * p(r), |r| <= ln2/2,
/// p the Cephes single-precision polynomial.
inline float exp_of_negative(float x) noexcept {
  const float clamped = std::max(x, -87.0f);
  const float n = (clamped * 1.44269504f + 12582912.0f) - 12582912.0f;  // round to nearest
  const float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const float scale = std::bit_cast<float>((static_cast<std::int32_t>(n) + 127) << 23);
  return x < -87.0f ? 0.0f : p * scale;
}

/// Masses are whole numbers, so that their sums do not depend on an order. Weights are 1 at most; below 2^-42 they have
/// none.
constexpr float mass_part_unit = 2097152.0f, mass_unit = mass_part_unit * mass_part_unit;
inline std::uint64_t mass_of(float weight) noexcept {
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(weight * mass_unit));
}

}  // namespace troupe::kernels
