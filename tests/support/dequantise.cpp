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

constexpr int iq4_values[] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
constexpr int e2m1_values[] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};  // doubled

/// Element i of one block.
class block_element {
public:
  block_element(const std::byte* block, int i) : block_(block), i_(i) {}

  float value(dtype type) const {
    switch (type) {
      case dtype::q4_0: return half(block_) * static_cast<float>(nibble(2) - 8);
      case dtype::q4_1: return half(block_) * static_cast<float>(nibble(4)) + half(block_ + 2);
      case dtype::q5_0: return half(block_) * static_cast<float>(nibble(6) + 16 * bit_of_word(2) - 16);
      case dtype::q5_1: return half(block_) * static_cast<float>(nibble(8) + 16 * bit_of_word(4)) + half(block_ + 2);
      case dtype::q8_0: return half(block_) * static_cast<float>(static_cast<std::int8_t>(block_[2 + i_]));
      case dtype::iq4_nl: return half(block_) * static_cast<float>(iq4_values[nibble(2)]);
      case dtype::mxfp4: return std::ldexp(1.0f, byte(0) - 128) * static_cast<float>(e2m1_values[nibble(1)]);
      case dtype::q2_k: return q2_k();
      case dtype::q3_k: return q3_k();
      case dtype::q4_k: return q4_or_q5_k(16, 0);
      case dtype::q5_k: return q4_or_q5_k(48, 16 * bit(16 + i_ % 32, i_ / 32));
      case dtype::q6_k: return q6_k();
      default: return iq4_xs();
    }
  }

private:
  int byte(int at) const { return std::to_integer<int>(block_[at]); }
  int bit(int at, int b) const { return byte(at) >> b & 1; }
  int bits(int at, int b, int count) const { return byte(at) >> b & ((1 << count) - 1); }
  int bit_of_word(int at) const { return bit(at + i_ / 8, i_ % 8); }
  /// Blocks of 32: elements 0..15 are the low nibbles of 16 bytes, 16..31 the high ones.
  int nibble(int at) const { return bits(at + i_ / 32 * 16 + i_ % 16, i_ % 32 < 16 ? 0 : 4, 4); }
  /// Two bits of 64 bytes: 32 bytes hold 128 elements, 32 for each of their pairs of bits.
  int pair(int at) const { return bits(at + i_ / 128 * 32 + i_ % 32, i_ / 32 % 4 * 2, 2); }

  float q2_k() const {
    const auto scale = static_cast<float>(bits(i_ / 16, 0, 4));
    const auto offset = static_cast<float>(bits(i_ / 16, 4, 4));
    return half(block_ + 80) * scale * static_cast<float>(pair(16)) - half(block_ + 82) * offset;
  }
  float q3_k() const {
    const int part = i_ / 16;
    const int scale = bits(96 + part % 8, part / 8 * 4, 4) + 16 * bits(104 + part % 4, part / 4 * 2, 2) - 32;
    const int q = pair(32) + 4 * bit(i_ % 32, i_ / 32) - 4;
    return half(block_ + 108) * static_cast<float>(scale) * static_cast<float>(q);
  }
  float q4_or_q5_k(int quants, int high) const {
    const int part = i_ / 32;
    const int b = part % 4;
    const int scale = part < 4 ? bits(4 + b, 0, 6) : bits(12 + b, 0, 4) + 16 * bits(4 + b, 6, 2);
    const int offset = part < 4 ? bits(8 + b, 0, 6) : bits(12 + b, 4, 4) + 16 * bits(8 + b, 6, 2);
    const int q = bits(quants + i_ / 64 * 32 + i_ % 32, part % 2 * 4, 4) + high;
    return half(block_) * static_cast<float>(scale) * static_cast<float>(q) -
           half(block_ + 2) * static_cast<float>(offset);
  }
  float q6_k() const {
    const int low = bits(i_ / 128 * 64 + i_ % 64, i_ / 64 % 2 * 4, 4);
    const int scale = static_cast<std::int8_t>(block_[192 + i_ / 16]);
    return half(block_ + 208) * static_cast<float>(scale) * static_cast<float>(low + 16 * pair(128) - 32);
  }
  float iq4_xs() const {
    const int part = i_ / 32;
    const int scale = bits(4 + part / 2, part % 2 * 4, 4) + 16 * bits(2 + part / 4, part % 4 * 2, 2) - 32;
    return half(block_) * static_cast<float>(scale) * static_cast<float>(iq4_values[nibble(8)]);
  }

  const std::byte* block_;
  int i_;
};

float element(dtype type, const std::byte* row, std::int64_t i) {
  const auto layout = memory::info(type);
  const std::byte* block = row + i / layout.block * layout.block_bytes;
  if (type == dtype::f16) return half(block);
  if (layout.block > 1) return block_element(block, static_cast<int>(i % layout.block)).value(type);
  std::uint32_t bits = 0;
  std::memcpy(type == dtype::bf16 ? reinterpret_cast<char*>(&bits) + 2 : reinterpret_cast<char*>(&bits), block,
              static_cast<std::size_t>(layout.block_bytes));
  return std::bit_cast<float>(bits);
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
