// Q2_K to Q6_K: superblocks of 256 columns, whose d (and dmin) in f16 multiply small scales of their 8 blocks or 16
// half blocks. Block layouts of the file: ggml's quantisations, as PyPI's `gguf` reads them. Knows no other family.
#include "kernels/cpu/formats/quantised_format.hpp"

namespace troupe::kernels {
namespace {

using memory::dtype;

constexpr std::uint32_t low_nibbles = 0x0f0f0f0f;

/// 32 bytes hold two blocks of 32 columns, in their low and their high nibbles; a tile wants columns i and 16 + i together.
template <dtype Type>
void write_two_blocks(const std::byte* from, std::int64_t in_low, std::int64_t in_high, tile_writer<Type> to) noexcept {
  const auto words = load_words<8>(from);
  for (int v = 0; v < 4; ++v) {
    to.quants(in_low, v, (words[v] & low_nibbles) | (words[v + 4] & low_nibbles) << 4);
    to.quants(in_high, v, (words[v] >> 4 & low_nibbles) | (words[v + 4] & ~low_nibbles));
  }
}

/// 8 scales and 8 offsets of 6 bits in 12 bytes: those of blocks 0 to 3 in the low bits of the first 8 bytes, those of
/// blocks 4 to 7 in the nibbles of the last 4 and the top bits of the first 8.
template <dtype Type>
void write_six_bit_scales(const std::byte* from, tile_writer<Type> to) noexcept {
  const auto at = [from](int i) { return std::to_integer<unsigned>(from[i]); };
  const auto put = [to](int block, int i, unsigned number) { to.scale(block, i, static_cast<std::uint8_t>(number)); };
  for (int b = 0; b < 4; ++b) {
    put(b, 0, at(b) & 63);
    put(b, 1, at(b + 4) & 63);
    put(b + 4, 0, (at(b + 8) & 15) | (at(b) >> 6) << 4);
    put(b + 4, 1, at(b + 8) >> 4 | (at(b + 4) >> 6) << 4);
  }
}

/// Bit `bit` of 32 bytes: that of byte 4v + j becomes bit v of byte j.
std::uint32_t gather_bits(const std::array<std::uint32_t, 8>& words, int bit) noexcept {
  std::uint32_t plane = 0;
  for (int v = 0; v < 8; ++v) plane |= (words[v] >> bit & 0x01010101) << v;
  return plane;
}

/// Bits `bit` and `bit` + 1 of 16 bytes: those of byte 4v + j become bits 2v and 2v + 1 of byte j.
std::uint32_t gather_pairs(const std::uint32_t* words, int bit) noexcept {
  std::uint32_t plane = 0;
  for (int v = 0; v < 4; ++v) plane |= (words[v] >> bit & 0x03030303) << 2 * v;
  return plane;
}

/// 32 bytes hold four blocks of two-bit numbers, one in each of their pairs of bits.
template <dtype Type>
void write_pairs(const std::byte* from, std::int64_t block, std::int64_t vector, tile_writer<Type> to) noexcept {
  const auto words = load_words<8>(from);
  for (int b = 0; b < 4; ++b)
    for (int half = 0; half < 2; ++half)
      to.quants(block + b, vector + half, gather_pairs(words.data() + 4 * half, 2 * b));
}

bool write_q2_k(const std::byte* from, tile_writer<dtype::q2_k> to) noexcept {
  for (int half = 0; half < 16; ++half) to.scale(half / 2, half % 2, std::to_integer<std::uint8_t>(from[half]));
  write_pairs(from + 16, 0, 0, to);
  write_pairs(from + 48, 4, 0, to);
  return to.d(from + 80) & to.m(from + 82);
}

/// 16 scales of 6 bits, less 32: the low nibbles of 8 bytes, the high ones, and the top bits in 4 more.
void write_q3_k_scales(const std::byte* from, tile_writer<dtype::q3_k> to) noexcept {
  const auto at = [from](int i) { return std::to_integer<int>(from[i]); };
  for (int half = 0; half < 16; ++half) {
    const int number = (at(half % 8) >> half / 8 * 4 & 15) | (at(8 + half % 4) >> half / 4 * 2 & 3) << 4;
    to.scale(half / 2, half % 2, static_cast<std::uint8_t>(number - 32));
  }
}

bool write_q3_k(const std::byte* from, tile_writer<dtype::q3_k> to) noexcept {
  const auto high = load_words<8>(from);
  for (int b = 0; b < 8; ++b) to.quants(b, 2, gather_bits(high, b));
  write_pairs(from + 32, 0, 0, to);
  write_pairs(from + 64, 4, 0, to);
  write_q3_k_scales(from + 96, to);
  return to.d(from + 108);
}

bool write_q4_k(const std::byte* from, tile_writer<dtype::q4_k> to) noexcept {
  write_six_bit_scales(from + 4, to);
  for (int pair = 0; pair < 4; ++pair) write_two_blocks(from + 16 + pair * 32, pair * 2, pair * 2 + 1, to);
  return to.d(from) & to.m(from + 2);
}

bool write_q5_k(const std::byte* from, tile_writer<dtype::q5_k> to) noexcept {
  write_six_bit_scales(from + 4, to);
  const auto high = load_words<8>(from + 16);
  for (int b = 0; b < 8; ++b) to.quants(b, 4, gather_bits(high, b));
  for (int pair = 0; pair < 4; ++pair) write_two_blocks(from + 48 + pair * 32, pair * 2, pair * 2 + 1, to);
  return to.d(from) & to.m(from + 2);
}

bool write_q6_k(const std::byte* from, tile_writer<dtype::q6_k> to) noexcept {
  for (int half = 0; half < 16; ++half) to.scale(half / 2, half % 2, std::to_integer<std::uint8_t>(from[192 + half]));
  for (int four = 0; four < 2; ++four) {  // blocks, 128 columns
    const std::byte* low = from + four * 64;
    write_two_blocks(low, four * 4, four * 4 + 2, to);
    write_two_blocks(low + 32, four * 4 + 1, four * 4 + 3, to);
    write_pairs(from + 128 + four * 32, four * 4, 4, to);
  }
  return to.d(from + 208);
}

}  // namespace

const tile_format q2_k_tiles = quantised_format<dtype::q2_k, write_q2_k>;
const tile_format q3_k_tiles = quantised_format<dtype::q3_k, write_q3_k>;
const tile_format q4_k_tiles = quantised_format<dtype::q4_k, write_q4_k>;
const tile_format q5_k_tiles = quantised_format<dtype::q5_k, write_q5_k>;
const tile_format q6_k_tiles = quantised_format<dtype::q6_k, write_q6_k>;

}  // namespace troupe::kernels
