// Q4_0, Q4_1, Q5_0, Q5_1, Q8_0: blocks of 32 columns with an f16 scale and perhaps an f16 offset. Block layouts of the
// file: the GGUF specification, "GGML quantization types". Knows no other family.
#include "kernels/cpu/formats/quantised_format.hpp"

namespace troupe::kernels {
namespace {

using memory::dtype;

template <dtype Type>
bool write_scales(const block_rows& from, tile_writer<Type> to) noexcept {
  if constexpr (layout_of(Type).has_min) return to.d_and_m(from, 0);
  else return to.d(from, 0);
}
template <dtype Type>
constexpr int first_quant = layout_of(Type).has_min ? 4 : 2;

/// Bytes that hold columns i and 16 + i lie in the tile as in the file.
template <dtype Type>
bool write_nibbles(const block_rows& from, tile_writer<Type> to) noexcept {
  const auto words = load_words<4>(from, first_quant<Type>);
  for (int v = 0; v < 4; ++v) to.quants(0, v, words[v]);
  return write_scales(from, to);
}

/// Exchanges the bits of x whose positions have bit Low set and bit High clear with those that have the reverse.
template <int High, int Low>
row_words swap_index_bits(const row_words& x) noexcept {
  constexpr int distance = (1 << High) - (1 << Low);
  constexpr std::uint32_t moved = [] {
    std::uint32_t mask = 0;
    for (int i = 0; i < 32; ++i)
      if ((i >> Low & 1) == 1 && (i >> High & 1) == 0) mask |= 1u << i;
    return mask;
  }();
  const row_words differ = (x >> distance ^ x) & moved;
  return x ^ differ ^ differ << distance;
}

/// Bit 4v + j goes to bit 8j + v: the position's five bits turn by two places, in four exchanges.
row_words fifth_bits(const row_words& file) noexcept {
  return swap_index_bits<1, 0>(swap_index_bits<2, 1>(swap_index_bits<3, 0>(swap_index_bits<4, 1>(file))));
}

template <dtype Type>
bool write_five_bits(const block_rows& from, tile_writer<Type> to) noexcept {
  const auto high = load_words<1>(from, first_quant<Type>);
  const auto low = load_words<4>(from, first_quant<Type> + 4);
  for (int v = 0; v < 4; ++v) to.quants(0, v, low[v]);
  to.quants(0, 4, fifth_bits(high[0]));
  return write_scales(from, to);
}

bool write_bytes(const block_rows& from, tile_writer<dtype::q8_0> to) noexcept {
  const auto words = load_words<8>(from, first_quant<dtype::q8_0>);
  for (int v = 0; v < 8; ++v) to.quants(0, v, words[v] ^ 0x80808080u);  // signed to offset 128
  return write_scales(from, to);
}

}  // namespace

const tile_format q4_0_tiles = quantised_format<dtype::q4_0, write_nibbles<dtype::q4_0>>;
const tile_format q4_1_tiles = quantised_format<dtype::q4_1, write_nibbles<dtype::q4_1>>;
const tile_format q5_0_tiles = quantised_format<dtype::q5_0, write_five_bits<dtype::q5_0>>;
const tile_format q5_1_tiles = quantised_format<dtype::q5_1, write_five_bits<dtype::q5_1>>;
const tile_format q8_0_tiles = quantised_format<dtype::q8_0, write_bytes>;

}  // namespace troupe::kernels
