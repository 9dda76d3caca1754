// Q2_K to Q6_K: superblocks of 256 columns, whose d (and dmin) in f16 multiply small scales of their 8 blocks or 16
// half blocks. Block layouts of the file: ggml's quantisations, as PyPI's `gguf` reads them. Knows no other family.
#include "kernels/cpu/formats/quantised_format.hpp"

namespace troupe::kernels {
namespace {

using memory::dtype;

constexpr std::uint32_t low_nibbles = 0x0f0f0f0f;
constexpr std::uint32_t low_pairs = 0x03030303;

/// 32 bytes hold two blocks of 32 columns, in their low and their high nibbles; a tile wants columns i and 16 + i
/// together.
template <dtype Type>
void write_two_blocks(const block_rows& from, std::int64_t offset, std::int64_t in_low, std::int64_t in_high,
                      tile_writer<Type> to) noexcept {
  const auto words = load_words<8>(from, offset);
  for (int v = 0; v < 4; ++v) {
    to.quants(in_low, v, (words[v] & low_nibbles) | (words[v + 4] & low_nibbles) << 4);
    to.quants(in_high, v, (words[v] >> 4 & low_nibbles) | (words[v + 4] & ~low_nibbles));
  }
}

/// 32 bytes hold a bit for each column of eight blocks: bit b of byte 4v + j becomes bit v of byte j of block b.
template <dtype Type>
void write_bits(const block_rows& from, std::int64_t offset, std::int64_t vector, tile_writer<Type> to) noexcept {
  const auto words = load_words<8>(from, offset);
  for (int b = 0; b < 8; ++b)
    to.quants(b, vector, row_words::each([&](int r) {
                std::uint32_t plane = 0;
                for (int v = 0; v < 8; ++v) plane |= (words[v].of[r] >> b & 0x01010101) << v;
                return plane;
              }));
}

/// 32 bytes hold four blocks of two-bit numbers, one in each of their pairs of bits.
template <dtype Type>
void write_pairs(const block_rows& from, std::int64_t offset, std::int64_t block, std::int64_t vector,
                 tile_writer<Type> to) noexcept {
  const auto words = load_words<8>(from, offset);
  for (int b = 0; b < 4; ++b)
    for (int half = 0; half < 2; ++half)
      to.quants(block + b, vector + half, row_words::each([&](int r) {
                  std::uint32_t plane = 0;
                  for (int v = 0; v < 4; ++v) plane |= (words[4 * half + v].of[r] >> 2 * b & low_pairs) << 2 * v;
                  return plane;
                }));
}

/// The bytes of four words are the scales `at` of blocks `first`, `first` + 1, ... (`halves` of them a block).
template <dtype Type>
void write_scales(const row_words& bytes, std::int64_t first, std::int64_t halves, std::int64_t at,
                  tile_writer<Type> to) noexcept {
  for (int i = 0; i < 4; ++i) to.scale((first + i) / halves, at + (first + i) % halves, bytes >> 8 * i);
}

/// 8 scales and 8 offsets of 6 bits in 12 bytes: those of blocks 0 to 3 in the low bits of the first 8 bytes, those of
/// blocks 4 to 7 in the nibbles of the last 4 and the top bits of the first 8.
template <dtype Type>
void write_six_bit_scales(const block_rows& from, std::int64_t offset, tile_writer<Type> to) noexcept {
  const auto words = load_words<3>(from, offset);
  for (int at = 0; at < 2; ++at) {
    write_scales(words[at] & 0x3f3f3f3f, 0, 1, at, to);
    write_scales((words[2] >> 4 * at & low_nibbles) | (words[at] >> 6 & low_pairs) << 4, 4, 1, at, to);
  }
}

template <dtype Type>
void write_half_scales(const block_rows& from, std::int64_t offset, tile_writer<Type> to) noexcept {
  const auto words = load_words<4>(from, offset);
  for (int i = 0; i < 4; ++i) write_scales(words[i], 4 * i, 2, 0, to);
}

/// 16 scales of 6 bits, less 32: the low nibbles of 8 bytes, the high ones, and the top bits in 4 more.
void write_q3_k_scales(const block_rows& from, std::int64_t offset, tile_writer<dtype::q3_k> to) noexcept {
  const auto words = load_words<3>(from, offset);
  for (int i = 0; i < 4; ++i)
    write_scales(less_32((words[i % 2] >> i / 2 * 4 & low_nibbles) | (words[2] >> 2 * i & low_pairs) << 4), 4 * i, 2, 0,
                 to);
}

bool write_q2_k(const block_rows& from, tile_writer<dtype::q2_k> to) noexcept {
  write_half_scales(from, 0, to);
  write_pairs(from, 16, 0, 0, to);
  write_pairs(from, 48, 4, 0, to);
  return to.d_and_m(from, 80);
}

bool write_q3_k(const block_rows& from, tile_writer<dtype::q3_k> to) noexcept {
  write_bits(from, 0, 2, to);
  write_pairs(from, 32, 0, 0, to);
  write_pairs(from, 64, 4, 0, to);
  write_q3_k_scales(from, 96, to);
  return to.d(from, 108);
}

bool write_q4_k(const block_rows& from, tile_writer<dtype::q4_k> to) noexcept {
  write_six_bit_scales(from, 4, to);
  for (int pair = 0; pair < 4; ++pair) write_two_blocks(from, 16 + pair * 32, pair * 2, pair * 2 + 1, to);
  return to.d_and_m(from, 0);
}

bool write_q5_k(const block_rows& from, tile_writer<dtype::q5_k> to) noexcept {
  write_six_bit_scales(from, 4, to);
  write_bits(from, 16, 4, to);
  for (int pair = 0; pair < 4; ++pair) write_two_blocks(from, 48 + pair * 32, pair * 2, pair * 2 + 1, to);
  return to.d_and_m(from, 0);
}

bool write_q6_k(const block_rows& from, tile_writer<dtype::q6_k> to) noexcept {
  for (int four = 0; four < 2; ++four) {  // blocks, 128 columns
    write_two_blocks(from, four * 64, four * 4, four * 4 + 2, to);
    write_two_blocks(from, four * 64 + 32, four * 4 + 1, four * 4 + 3, to);
    write_pairs(from, 128 + four * 32, four * 4, 4, to);
  }
  write_half_scales(from, 192, to);
  return to.d(from, 208);
}

}  // namespace

const tile_format q2_k_tiles = quantised_format<dtype::q2_k, write_q2_k>;
const tile_format q3_k_tiles = quantised_format<dtype::q3_k, write_q3_k>;
const tile_format q4_k_tiles = quantised_format<dtype::q4_k, write_q4_k>;
const tile_format q5_k_tiles = quantised_format<dtype::q5_k, write_q5_k>;
const tile_format q6_k_tiles = quantised_format<dtype::q6_k, write_q6_k>;

}  // namespace troupe::kernels
