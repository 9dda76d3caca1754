// Where a block's scales lie, and how large they must be for values of a wanted size.
#include "tests/support/random_rows.hpp"

#include <array>
#include <bit>
#include <cmath>

namespace troupe::test {
namespace {

using memory::dtype;

/// Half precision, halves away from zero; what is too large becomes infinite.
std::uint16_t to_half(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000);
  const float size = std::fabs(value);
  if (size < 0x1p-14f) return static_cast<std::uint16_t>(sign | std::lround(size * 0x1p24f));
  const auto exponent = static_cast<std::int32_t>((bits >> 23) & 255) - 127 + 15;
  if (exponent >= 31) return static_cast<std::uint16_t>(sign | 0x7c00);
  return static_cast<std::uint16_t>(sign | (exponent << 10) | ((bits >> 13) & 0x3ff));
}

template <class T>
void put(std::string& to, T value) {
  const auto bytes = std::bit_cast<std::array<char, sizeof(T)>>(value);
  to.append(bytes.data(), bytes.size());
}

struct scale_places {
  int d = 0;               ///< where the block has d
  int m = -1;              ///< and m or dmin
  float m_by_d = 0.0f;     ///< that makes the values' mean zero
  float deviation = 1.0f;  ///< of the values at d = 1, all other bits being random
};

scale_places places_of(dtype type) {
  switch (type) {
    case dtype::q4_0: return {0, -1, 0, 4.61f};
    case dtype::q4_1: return {0, 2, -7.5f, 4.61f};
    case dtype::q5_0: return {0, -1, 0, 9.23f};
    case dtype::q5_1: return {0, 2, -15.5f, 9.23f};
    case dtype::q8_0: return {0, -1, 0, 73.9f};
    case dtype::q2_k: return {80, 82, 1.5f, 13.9f};
    case dtype::q3_k: return {108, -1, 0, 43.3f};
    case dtype::q4_k: return {0, 2, 7.5f, 258.0f};
    case dtype::q5_k: return {0, 2, 15.5f, 527.0f};
    case dtype::q6_k: return {208, -1, 0, 1366.0f};
    case dtype::iq4_nl: return {0, -1, 0, 67.4f};
    case dtype::iq4_xs: return {0, -1, 0, 1246.0f};
    default: return {0, -1, 0, 5.85f};  // MXFP4
  }
}

void put_block(std::string& to, dtype type, float deviation, random_numbers& random) {
  // Scales vary by block so that mixing them up shows.
  const float spread = 0.75f + 0.5f * static_cast<float>(random.next() % 1024) / 1024.0f;
  const scale_places at = places_of(type);
  const float d = spread * deviation / at.deviation;
  const int bytes = memory::info(type).block_bytes;
  for (int i = 0; i < bytes; ++i) {
    if (i == at.d && type == dtype::mxfp4) put(to, static_cast<std::uint8_t>(128 + std::lround(std::log2(d))));
    else if (i == at.d) put(to, to_half(d)), ++i;
    else if (i == at.m) put(to, to_half(at.m_by_d * d)), ++i;
    else put(to, static_cast<std::uint8_t>(random.next() >> 56));
  }
}

}  // namespace

std::string random_rows(dtype type, std::int64_t rows, std::int64_t cols, float deviation, std::uint64_t seed) {
  std::string bytes;
  random_numbers random(seed);
  const auto layout = memory::info(type);
  for (std::int64_t i = 0; i < rows * cols / layout.block; ++i) {
    if (layout.block > 1) {
      put_block(bytes, type, deviation, random);
      continue;
    }
    const float value = deviation * random.unit();
    if (type == dtype::f16) put(bytes, to_half(value));
    else if (type == dtype::bf16) put(bytes, static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16));
    else put(bytes, value);
  }
  return bytes;
}

bool spoil_scale(dtype type, char* block, int which, bool nan) {
  const scale_places places = places_of(type);
  const int at = which == 0 ? places.d : which == 1 ? places.m : -1;
  if (at < 0) return false;
  if (type == dtype::mxfp4) {
    block[at] = '\xff';  // its only number that is none
  } else {
    block[at] = nan ? '\x01' : '\x00';
    block[at + 1] = '\xfc';
  }
  return true;
}

}  // namespace troupe::test
