// Q4_0, Q4_1, Q5_0, Q5_1, Q8_0: blocks of 32 columns with an f16 scale and perhaps an f16 offset. Block layouts of the
// file: the GGUF specification, "GGML quantization types". Knows no other family.
#include "kernels/cpu/formats/quantised_format.hpp"

namespace troupe::kernels {
namespace {

using memory::dtype;

/// The scales at the block's front. Returns where the quants begin.
template <dtype Type>
const std::byte* write_scales(const std::byte* from, tile_writer<Type> to, bool& finite) noexcept {
  finite = to.d(from);
  if constexpr (!layout_of(Type).has_min) return from + 2;
  finite &= to.m(from + 2);
  return from + 4;
}

/// Bytes that hold columns i and 16 + i lie in the tile as in the file.
template <dtype Type>
bool write_nibbles(const std::byte* from, tile_writer<Type> to) noexcept {
  bool finite = true;
  const auto words = load_words<4>(write_scales(from, to, finite));
  for (int v = 0; v < 4; ++v) to.quants(0, v, words[v]);
  return finite;
}

/// Exchanges the bits of x whose positions have bit Low set and bit High clear with those that have the reverse.
template <int High, int Low>
constexpr std::uint32_t swap_index_bits(std::uint32_t x) noexcept {
  constexpr int distance = (1 << High) - (1 << Low);
  constexpr std::uint32_t moved = [] {
    std::uint32_t mask = 0;
    for (int i = 0; i < 32; ++i)
      if ((i >> Low & 1) == 1 && (i >> High & 1) == 0) mask |= 1u << i;
    return mask;
  }();
  const std::uint32_t differ = (x >> distance ^ x) & moved;
  return x ^ differ ^ differ << distance;
}

/// Bit 4v + j goes to bit 8j + v: the position's five bits turn by two places, in four exchanges.
constexpr std::uint32_t fifth_bits(std::uint32_t file) noexcept {
  return swap_index_bits<1, 0>(swap_index_bits<2, 1>(swap_index_bits<3, 0>(swap_index_bits<4, 1>(file))));
}
static_assert(fifth_bits(1u << 4) == 1u << 1 && fifth_bits(1u << 31) == 1u << 31 && fifth_bits(1u << 2) == 1u << 16);

template <dtype Type>
bool write_five_bits(const std::byte* from, tile_writer<Type> to) noexcept {
  bool finite = true;
  const auto words = load_words<5>(write_scales(from, to, finite));
  for (int v = 0; v < 4; ++v) to.quants(0, v, words[v + 1]);
  to.quants(0, 4, fifth_bits(words[0]));
  return finite;
}

bool write_bytes(const std::byte* from, tile_writer<dtype::q8_0> to) noexcept {
  bool finite = true;
  const auto words = load_words<8>(write_scales(from, to, finite));
  for (int v = 0; v < 8; ++v) to.quants(0, v, words[v] ^ 0x80808080u);  // signed to offset 128
  return finite;
}

}  // namespace

const tile_format q4_0_tiles = quantised_format<dtype::q4_0, write_nibbles<dtype::q4_0>>;
const tile_format q4_1_tiles = quantised_format<dtype::q4_1, write_nibbles<dtype::q4_1>>;
const tile_format q5_0_tiles = quantised_format<dtype::q5_0, write_five_bits<dtype::q5_0>>;
const tile_format q5_1_tiles = quantised_format<dtype::q5_1, write_five_bits<dtype::q5_1>>;
const tile_format q8_0_tiles = quantised_format<dtype::q8_0, write_bytes>;

}  // namespace troupe::kernels
