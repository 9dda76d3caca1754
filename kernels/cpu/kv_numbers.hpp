// A number of K or V to its cell (kv_unit.hpp), in plain arithmetic. Each file that includes this is compiled
// for an instruction set of its own, hence the unnamed namespace.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/cpu/kv_unit.hpp"

namespace troupe::kernels {
namespace {

/// The index of the nearest of narrow_numbers, of -128 to 127 in order.
constexpr std::array<std::uint8_t, 256> nearest_narrow = [] {
  std::array<std::uint8_t, 256> nearest{};
  for (int value = -128; value < 128; ++value) {
    std::uint8_t best = 0;
    for (std::uint8_t i = 1; i < 16; ++i)
      if (value * 2 >= narrow_numbers[i] + narrow_numbers[i - 1]) best = i;
    nearest[static_cast<std::size_t>(value + 128)] = best;
  }
  return nearest;
}();

/// Calls work.operator()<type>().
template <class Work>
inline void with_type(kv_type type, const Work& work) {
  switch (type) {
    case kv_type::i16: return work.template operator()<kv_type::i16>();
    case kv_type::f16: return work.template operator()<kv_type::f16>();
    case kv_type::bf16: return work.template operator()<kv_type::bf16>();
    case kv_type::q8_0: return work.template operator()<kv_type::q8_0>();
    case kv_type::q4_0: return work.template operator()<kv_type::q4_0>();
  }
}

/// Number n of a cell. `bits`: of the half; of other types the integer, which q4_0 rounds further.
template <kv_type Type>
inline void put(std::byte* cell, std::int64_t n, std::int16_t bits) {
  if constexpr (Type == kv_type::q8_0) {
    cell[n] = static_cast<std::byte>(bits);
  } else if constexpr (Type == kv_type::q4_0) {
    std::uint16_t word;
    __builtin_memcpy(&word, cell + n % 2 * 2, 2);
    const auto shift = n / 2 * 4;
    const unsigned index = nearest_narrow[static_cast<std::size_t>(bits + 128)];
    word = static_cast<std::uint16_t>((word & ~(0xfu << shift)) | index << shift);
    __builtin_memcpy(cell + n % 2 * 2, &word, 2);
  } else {
    __builtin_memcpy(cell + n * 2, &bits, 2);
  }
}

/// Nearest, even at ties; of a finite number.
inline std::int16_t bf16_of(float value) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, &value, 4);
  return static_cast<std::int16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

}  // namespace
}  // namespace troupe::kernels
