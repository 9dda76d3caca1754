// The scales of K, V and queries, in plain arithmetic. Each file that includes this is compiled for an instruction set
// of its own, hence the unnamed namespace.
#pragma once

#include <cstdint>

#include "kernels/cpu/kv_unit.hpp"

namespace troupe::kernels {
namespace {

/// 1 / scale; 0 where that is no number, so that what it multiplies becomes 0.
inline float inverse_of(float scale) {
  const float inverse = 1.0f / scale;
  return inverse <= 3.4028235e38f ? inverse : 0.0f;
}

/// Of a vector that long, with numbers up to `largest`. Where `length` is not finite, so is the scale.
inline float vector_scale(float length, float largest) {
  const float by_length = length * (1.0f / longest_vector), by_number = largest * (1.0f / largest_int16);
  return by_length < by_number ? by_number : by_length;
}

/// A scale as it is stored, bf16 and rounded up, so that no number outgrows its range.
struct stored_scale {
  std::uint16_t bits;
  float inverse;
};
inline stored_scale store_scale(float scale) {
  constexpr std::uint16_t nan = 0x7fc0;
  if (!(scale <= 1e38f)) return {nan, 0.0f};
  std::uint32_t bits;
  __builtin_memcpy(&bits, &scale, 4);
  bits = (bits + 0xffffu) & 0xffff0000u;
  __builtin_memcpy(&scale, &bits, 4);
  return {static_cast<std::uint16_t>(bits >> 16), inverse_of(scale)};
}

/// Of a head that long, with numbers up to `largest`, in a type other than i16. That of floats is 1 but where an f16
/// would be infinite.
inline stored_scale narrow_scale(kv_type type, float length, float largest) {
  if (!(length <= 3.4028235e38f)) return store_scale(length);
  if (is_turned(type)) return store_scale(largest * (1.0f / largest_narrow));
  constexpr float largest_f16 = 65504.0f;
  return store_scale(type == kv_type::f16 && largest > largest_f16 ? largest * (1.0f / largest_f16) : 1.0f);
}

}  // namespace
}  // namespace troupe::kernels
