// Plain dequantisation from ggml's block layouts. Shares nothing with the kernels that it checks.
#include "tests/support/dequantise.hpp"

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace troupe::test {
namespace {

using memory::dtype;

float half(const std::byte* at) {
  std::uint16_t bits;
  std::memcpy(&bits, at, 2);
  const int exponent = (bits >> 10) & 31;
  const int mantissa = bits & 1023;
  const float size = exponent == 0    ? std::ldexp(static_cast<float>(mantissa), -24)
                     : exponent == 31 ? (mantissa != 0 ? NAN : INFINITY)
                                      : std::ldexp(static_cast<float>(1024 + mantissa), exponent - 25);
  return (bits & 0x8000) != 0 ? -size : size;
}

float element(dtype type, const std::byte* row, std::int64_t i) {
  const auto layout = memory::info(type);
  const std::byte* block = row + i / layout.block * layout.block_bytes;
  const auto in_block = static_cast<int>(i % layout.block);
  // Elements 0..15 are the low nibbles of the 16 bytes, 16..31 the high ones.
  const auto nibble = [&](int offset) {
    const auto pair = static_cast<int>(block[offset + in_block % 16]);
    return static_cast<float>(in_block < 16 ? pair & 15 : pair >> 4);
  };
  switch (type) {
    case dtype::f16: return half(block);
    case dtype::bf16: {
      std::uint16_t bits;
      std::memcpy(&bits, block, 2);
      return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
    }
    case dtype::q4_0: return half(block) * (nibble(2) - 8.0f);
    case dtype::q4_1: return half(block) * nibble(4) + half(block + 2);
    case dtype::q8_0: return half(block) * static_cast<float>(static_cast<std::int8_t>(block[2 + in_block]));
    default: {
      float value;
      std::memcpy(&value, block, 4);
      return value;
    }
  }
}

}  // namespace

std::vector<float> dequantise(const memory::tensor_view& view) {
  std::vector<float> values;
  values.reserve(static_cast<std::size_t>(view.rows * view.cols));
  for (std::int64_t row = 0; row < view.rows; ++row) {
    for (std::int64_t i = 0; i < view.cols; ++i) values.push_back(element(view.type, view.row_bytes(row), i));
  }
  return values;
}

}  // namespace troupe::test
