// What a product takes out of a tile of quantised weights, by its layout: the weights, their scales, what sums begin
// with. In terms of `vec`, part of vector_kernels.hpp.
#pragma once

#include "kernels/cpu/kernel_set.hpp"
#include "kernels/cpu/tile_layout.hpp"

// clang-format takes the pragma before a loop for a name.
// clang-format off

namespace troupe::kernels {
namespace {

/// All constants, so that no function of the layout is called, let alone linked, from code for one processor.
template <memory::dtype Type>
struct quant_tile {
  static constexpr memory::dtype type = Type;
  static constexpr tile_layout layout = layout_of(Type);
  static constexpr int halves = layout.halves();
  static constexpr std::int64_t columns_together = layout.blocks * quant_block;  // a cut in the columns falls between these
  static constexpr std::int64_t low_bytes = layout.low_bytes();
  static constexpr std::int64_t quant_bytes = layout.quant_bytes();
  static constexpr std::int64_t header_bytes = layout.header_bytes();
  static constexpr std::int64_t block_bytes = layout.block_bytes();
  static constexpr std::int64_t group_bytes = layout.group_bytes();
};

/// The weights u of columns 4v to 4v+3 of a block, and of the columns 16 after them; v is 0 to 3. `quants` is the block's
/// first vector, or the second half of it for units of 8 rows.
template <class Tile>
inline void load_pair(const std::byte* quants, int v, vec::row_bytes& low, vec::row_bytes& high) {
  constexpr tile_layout layout = Tile::layout;
  if constexpr (layout.low_bits == 8) {
    low = vec::load_bytes(quants + v * 64);
    high = vec::load_bytes(quants + (v + 4) * 64);
  } else if constexpr (layout.low_bits == 4) {
    const vec::row_bytes both = vec::load_bytes(quants + v * 64);
    low = vec::bits(both, 0, 15);
    high = vec::bits(both, 4, 15);
  } else {
    low = vec::bits(vec::load_bytes(quants), v * 2, 3);
    high = vec::bits(vec::load_bytes(quants + 64), v * 2, 3);
  }
  const std::byte* more = quants + Tile::low_bytes;
  if constexpr (layout.high_bits == 1) {
    const vec::row_bytes plane = vec::load_bytes(more);
    low = vec::with_bits(low, plane, v - layout.low_bits, 1 << layout.low_bits);
    high = vec::with_bits(high, plane, v + 4 - layout.low_bits, 1 << layout.low_bits);
  } else if constexpr (layout.high_bits == 2) {
    low = vec::with_bits(low, vec::load_bytes(more), v * 2 - layout.low_bits, 3 << layout.low_bits);
    high = vec::with_bits(high, vec::load_bytes(more + 64), v * 2 - layout.low_bits, 3 << layout.low_bits);
  }
  if constexpr (!layout.codebook.empty()) {
    constexpr const std::uint8_t* numbers = layout.codebook.data();
    low = vec::look_up(numbers, low);
    high = vec::look_up(numbers, high);
  }
}

/// d, and m or dmin, of a group of blocks.
struct group_header {
  vec::row_floats d, m;
};
template <class Tile>
inline group_header load_header(const std::byte* group, int part) {
  group_header out;
  if constexpr (Tile::layout.exponent_scale)
    out.d = vec::load_exponents(group + part * vec::rows);
  else
    out.d = vec::load_half(group + part * vec::rows * 2);
  if constexpr (Tile::layout.has_min) out.m = vec::load_half(group + 32 + part * vec::rows * 2);
  return out;
}

/// value = d[half] * (u - offset) + m[half] for the halves of a block, `numbers` being its small scales.
struct scales_of_block {
  vec::row_floats d[2], m[2];
};
template <class Tile>
inline scales_of_block load_scales(const group_header& group, const std::byte* numbers, int part) {
  const std::byte* at = numbers + part * vec::rows;
  scales_of_block out;
  if constexpr (Tile::layout.scales == block_scales::half_nibbles) {
    TROUPE_UNROLL for (int half = 0; half < 2; ++half) {
      vec::row_floats scale, offset;
      vec::load_nibbles(at + half * tile_rows, scale, offset);
      out.d[half] = vec::mul_rows(group.d, scale);
      out.m[half] = vec::negate_rows(vec::mul_rows(group.m, offset));
    }
  } else if constexpr (Tile::layout.scales == block_scales::half_bytes) {
    TROUPE_UNROLL for (int half = 0; half < 2; ++half)
      out.d[half] = vec::mul_rows(group.d, vec::load_numbers(at + half * tile_rows));
  } else if constexpr (Tile::layout.scales == block_scales::bytes) {
    out.d[0] = vec::mul_rows(group.d, vec::load_numbers(at));
    if constexpr (Tile::layout.has_min)
      out.m[0] = vec::negate_rows(vec::mul_rows(group.m, vec::load_numbers(at + tile_rows)));
  } else {
    out.d[0] = group.d;
    if constexpr (Tile::layout.has_min) out.m[0] = group.m;
  }
  return out;
}

/// What the integer sum of a block, or of its half, begins with: -offset * sum(q).
template <class Tile, int Half>
inline vec::row_ints start_of(const activation_block& a) {
  constexpr std::int32_t offset = Tile::layout.offset;
  if constexpr (offset == 0 || (vec::signed_above_63 && Tile::layout.largest > 63))
    return vec::set_ints(0);
  else if constexpr (Tile::halves == 1 && offset == 8)
    return vec::set_ints(a.start8);
  else if constexpr (Tile::halves == 1 && offset == 128)
    return vec::set_ints(a.start128);
  else
    return vec::weighted_sum(a.sums, Half == 1 ? 0 : -offset, Tile::halves == 1 || Half == 1 ? -offset : 0);
}

/// add_dots where the processor multiplies matrices of 2 rows by 2 tokens.
template <class Tile, int Units, int Tokens, class Vec>
inline void add_paired_dots(const std::byte* const (&weights)[Units], const std::int8_t* quants,
                            vec::row_sums (&sums)[Units][Tokens][2]) {
  constexpr int second = Tile::halves - 1;  // where the last 16 columns are summed
  const auto each_pair = [&](auto work) {
    TROUPE_UNROLL for (int u = 0; u < Units; ++u)
      TROUPE_UNROLL for (int half = 0; half < Tile::halves; ++half)
        TROUPE_UNROLL for (int t = 0; t + 1 < Tokens; t += 2) work(sums[u][t][half], sums[u][t + 1][half]);
  };
  each_pair([](vec::row_sums& a, vec::row_sums& b) { Vec::pair_sums(a, b); });
  TROUPE_UNROLL for (int v = 0; v < 4; v += 2)
    TROUPE_UNROLL for (int u = 0; u < Units; ++u) {
      vec::row_bytes low[2], high[2];
      TROUPE_UNROLL for (int i = 0; i < 2; ++i) load_pair<Tile>(weights[u], v + i, low[i], high[i]);
      if constexpr (Tokens % 2 != 0) {
        const std::int8_t* last = quants + (Tokens - 1) * 32 + v * 4;
        TROUPE_UNROLL for (int i = 0; i < 2; ++i) {
          vec::add_products<Tile::layout.largest, 8>(sums[u][Tokens - 1][0], low[i], vec::four_columns(last + i * 4), 0);
          vec::add_products<Tile::layout.largest, 8>(sums[u][Tokens - 1][second], high[i], vec::four_columns(last + 16 + i * 4), 0);
        }
      }
      Vec::pair_columns(low[0], low[1]);
      Vec::pair_columns(high[0], high[1]);
      TROUPE_UNROLL for (int t = 0; t + 1 < Tokens; t += 2) {
        const std::int8_t* one = quants + t * 32 + v * 4;
        const vec::row_bytes a = Vec::eight_columns(one, one + 32), b = Vec::eight_columns(one + 16, one + 48);
        TROUPE_UNROLL for (int i = 0; i < 2; ++i) {
          sums[u][t + i][0] = Vec::add_pair_products(sums[u][t + i][0], low[i], a);
          sums[u][t + i][second] = Vec::add_pair_products(sums[u][t + i][second], high[i], b);
        }
      }
    }
  each_pair([](vec::row_sums& a, vec::row_sums& b) { Vec::part_sums(a, b); });
}

/// sums[unit][token] += u . q over one block, by halves where they have scales of their own; tokens are 32 quants apart.
template <class Tile, int Units, int Tokens>
inline void add_dots(const std::byte* const (&weights)[Units], const std::int8_t* quants,
                     vec::row_sums (&sums)[Units][Tokens][2]) {
  if constexpr (vec::has_token_pairs && Tokens > 1) return add_paired_dots<Tile, Units, Tokens, vec>(weights, quants, sums);
  constexpr int steps = 8 / Tile::halves;  // products that one sum takes
  TROUPE_UNROLL for (int v = 0; v < 4; ++v) {
    vec::row_bytes low[Units], high[Units];
    TROUPE_UNROLL for (int u = 0; u < Units; ++u) load_pair<Tile>(weights[u], v, low[u], high[u]);
    TROUPE_UNROLL for (int t = 0; t < Tokens; ++t) {
      const vec::row_bytes a = vec::four_columns(quants + t * 32 + v * 4);
      const vec::row_bytes b = vec::four_columns(quants + t * 32 + 16 + v * 4);
      TROUPE_UNROLL for (int u = 0; u < Units; ++u) {
        vec::add_products<Tile::layout.largest, steps>(sums[u][t][0], low[u], a, Tile::halves == 1 ? 2 * v : v);
        vec::add_products<Tile::layout.largest, steps>(sums[u][t][Tile::halves - 1], high[u], b,
                                                       Tile::halves == 1 ? 2 * v + 1 : v);
      }
    }
  }
}

/// The block's term joins the sum of one unit and token.
template <class Tile>
inline vec::row_floats add_block(vec::row_floats sum, const vec::row_sums (&dots)[2], const scales_of_block& w,
                                 const activation_block& a) {
  const vec::row_floats scale = vec::set_rows(a.scale);
  if constexpr (Tile::halves == 1) {
    sum = vec::fma_rows(vec::to_floats(dots[0]), vec::mul_rows(w.d[0], scale), sum);
  } else {
    const vec::row_floats first = vec::mul_rows(vec::to_floats(dots[0]), w.d[0]);
    sum = vec::fma_rows(vec::fma_rows(vec::to_floats(dots[1]), w.d[1], first), scale, sum);
  }
  if constexpr (Tile::layout.has_min) {
    sum = vec::fma_rows(w.m[Tile::halves - 1], vec::set_rows(a.scaled_sum), sum);
    if constexpr (Tile::halves == 2)
      sum = vec::fma_rows(vec::sub_rows(w.m[0], w.m[1]), vec::set_rows(a.scaled_first), sum);
  }
  return sum;
}

}  // namespace
}  // namespace troupe::kernels
