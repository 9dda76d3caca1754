// Q2_K to Q6_K: superblocks of 256 columns, whose d (and dmin) in f16 multiply small scales of their 8 blocks or 16
// half blocks. Block layouts of the file: ggml's quantisations, as PyPI's `gguf` reads them. Knows no other family.
#include "kernels/cpu/formats/quantised_format.hpp"

namespace troupe::kernels {
namespace {

using memory::dtype;

constexpr std::uint32_t low_nibbles = 0x0f0f0f0f;

/// 32 bytes hold two blocks of 32 columns, in their low and their high nibbles; a tile wants columns i and 16 + i together.
template <dtype Type>
void write_two_blocks(const std::byte* from, std::int64_t block, tile_writer<Type> to) noexcept {
  const auto words = load_words<8>(from);
  for (int v = 0; v < 4; ++v) {
    to.quants(block, v, (words[v] & low_nibbles) | (words[v + 4] & low_nibbles) << 4);
    to.quants(block + 1, v, (words[v] >> 4 & low_nibbles) | (words[v + 4] & ~low_nibbles));
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

bool write_q4_k(const std::byte* from, tile_writer<dtype::q4_k> to) noexcept {
  write_six_bit_scales(from + 4, to);
  for (int pair = 0; pair < 4; ++pair) write_two_blocks(from + 16 + pair * 32, pair * 2, to);
  return to.d(from) & to.m(from + 2);
}

}  // namespace

const tile_format q4_k_tiles = quantised_format<dtype::q4_k, write_q4_k>;

}  // namespace troupe::kernels
