// IQ4_NL, IQ4_XS, MXFP4: nibbles that stand for the numbers of a fixed table. Block layouts of the file: ggml's
// quantisations, as PyPI's `gguf` reads them; MXFP4's scale and numbers: OCP Microscaling Formats v1.0. Knows no other
// family.
#include "kernels/cpu/formats/quantised_format.hpp"

namespace troupe::kernels {
namespace {

using memory::dtype;

/// Bytes that hold columns i and 16 + i of a block lie in the tile as in the file; the table is the product's.
template <dtype Type>
void write_nibbles(const block_rows& from, std::int64_t offset, std::int64_t block, tile_writer<Type> to) noexcept {
  const auto words = load_words<4>(from, offset);
  for (int v = 0; v < 4; ++v) to.quants(block, v, words[v]);
}

bool write_iq4_nl(const block_rows& from, tile_writer<dtype::iq4_nl> to) noexcept {
  write_nibbles(from, 2, 0, to);
  return to.d(from, 0);
}

/// Each block's scale has 6 bits, less 32: 4 in a nibble, the 2 above in the upper half of the first word.
bool write_iq4_xs(const block_rows& from, tile_writer<dtype::iq4_xs> to) noexcept {
  const auto words = load_words<2>(from, 0);
  for (int b = 0; b < 8; ++b) {
    const row_words number = (words[1] >> 4 * b & 15) | (words[0] >> (16 + 2 * b) & 3) << 4;
    to.scale(b, 0, less_32(number));
    write_nibbles(from, 8 + b * 16, b, to);
  }
  return to.d(from, 0);
}

bool write_mxfp4(const block_rows& from, tile_writer<dtype::mxfp4> to) noexcept {
  write_nibbles(from, 1, 0, to);
  return to.exponent(from, 0);
}

}  // namespace

const tile_format iq4_nl_tiles = quantised_format<dtype::iq4_nl, write_iq4_nl>;
const tile_format iq4_xs_tiles = quantised_format<dtype::iq4_xs, write_iq4_xs>;
const tile_format mxfp4_tiles = quantised_format<dtype::mxfp4, write_mxfp4>;

}  // namespace troupe::kernels
