// Products with quantised and float weights in terms of `vec`. Part of vector_kernels.hpp, which says what `vec`
// provides.
#pragma once

#include "kernels/cpu/kernel_set.hpp"
#include "kernels/cpu/packed_tiles.hpp"
#include "kernels/cpu/vector_float_products.hpp"
#include "kernels/cpu/vector_tile_unit.hpp"
#include "kernels/cpu/vector_tiles.hpp"
#include "kernels/cpu/vector_units.hpp"

// clang-format takes the pragma before a loop for a name.
// clang-format off

namespace troupe::kernels {
namespace {

/// The one place where quantised outputs are summed: Units x Tokens of them at once, tokens [first, first + Tokens) of
/// a group.
template <class Tile, int Units, int Tokens>
inline void quantised_group(const product_args& args, std::int64_t unit, const token_group& group, std::int64_t first,
                            prefetching& ahead) {
  constexpr std::int64_t bytes = Tile::block_bytes + Tile::header_bytes / Tile::layout.blocks;
  constexpr bool lone = Units == 1 && Tokens <= lone_stream_tokens;
  const std::int64_t blocks = args.cols / quant_block;
  const std::int64_t first_input = group.first * blocks + first;
  const std::int8_t* quants = args.quants + first_input * quant_block;
  const activation_block* inputs = args.blocks + first_input;
  const std::byte* data[Units];
  int rows[Units];  // which of the tile
  vec::row_floats sums[Units][Tokens];
  TROUPE_UNROLL for (int u = 0; u < Units; ++u) {
    data[u] = unit_start(args, unit + u, tile_bytes(Tile::type, args.cols));
    rows[u] = static_cast<int>((unit + u) % units_per_tile);
  }
  start_group(args, unit, group.first + first, sums);
  for (std::int64_t b = 0; b < blocks; b += Tile::layout.blocks) {
    group_header headers[Units];
    TROUPE_UNROLL for (int u = 0; u < Units; ++u) {
      headers[u] = load_header<Tile>(data[u], rows[u]);
      data[u] += Tile::header_bytes;
    }
    for (int in_group = 0; in_group < Tile::layout.blocks; ++in_group) {
      const std::byte* weights[Units];
      vec::row_sums dots[Units][Tokens][2];
      if constexpr (lone)
        prefetch<bytes>(data[0], ahead);
      else
        prefetch_next<Units * bytes>(ahead);
      TROUPE_UNROLL for (int u = 0; u < Units; ++u) {
        weights[u] = data[u] + rows[u] * vec::rows * 4;
        TROUPE_UNROLL for (int t = 0; t < Tokens; ++t) {
          dots[u][t][0] = vec::sums_from(start_of<Tile, 0>(inputs[t]));
          if constexpr (Tile::halves == 2) dots[u][t][1] = vec::sums_from(start_of<Tile, 1>(inputs[t]));
        }
      }
      add_dots<Tile, Units, Tokens>(weights, quants, dots);
      TROUPE_UNROLL for (int u = 0; u < Units; ++u) {
        const scales_of_block scales = load_scales<Tile>(headers[u], data[u] + Tile::quant_bytes, rows[u]);
        TROUPE_UNROLL for (int t = 0; t < Tokens; ++t)
          sums[u][t] = add_block<Tile>(sums[u][t], dots[u][t], scales, inputs[t]);
        data[u] += Tile::block_bytes;
      }
      quants += group.size * quant_block;
      inputs += group.size;
    }
  }
  store_group(args, unit, group.first + first, sums);
}

template <class Tile, int Units, int Tokens>
inline void tokens_at_once(const product_args& args, std::int64_t unit, const token_group& group, std::int64_t first,
                           prefetching& ahead) {
  if constexpr (is_quantised(Tile::type))
    quantised_group<Tile, Units, Tokens>(args, unit, group, first, ahead);
  else
    float_group<Tile, Units, Tokens>(args, unit, group, first, ahead);
}

/// Units that many tokens meet at once. The dot product of bf16 takes longer than that of int8, and there is only one sum
/// for each output: more of them have to be under way.
template <class Tile>
constexpr int units_for_many() {
  if constexpr (!is_quantised(Tile::type))
    if constexpr (Tile::halves) return 2 * vec::units_at_once;
  return vec::units_at_once;
}

/// How many tokens Units meet at once. Few variants: each is compiled for every type. Groups of the usual kind have four
/// tokens or more where more than lone_stream_tokens are multiplied.
template <class Tile, int Units>
struct token_range {
  static constexpr bool wide = Units == vec::units_at_once;
  static constexpr bool for_many = !wide && Units == units_for_many<Tile>();
  static constexpr int most = wide ? vec::tokens_at_once : for_many ? vec::grouping.usual : lone_stream_tokens;
  static constexpr int least = wide && Units > 1 && most >= vec::grouping.largest ? lone_stream_tokens + 1 : 1;
};

/// `count` tokens of a group, at most Tokens.
template <class Tile, int Units, int Tokens>
inline void some_tokens(const product_args& args, std::int64_t unit, const token_group& group, std::int64_t first,
                        std::int64_t count, prefetching& ahead) {
  if constexpr (Tokens >= token_range<Tile, Units>::least) {
    if (count == Tokens) return tokens_at_once<Tile, Units, Tokens>(args, unit, group, first, ahead);
    some_tokens<Tile, Units, Tokens - 1>(args, unit, group, first, count, ahead);
  }
}

/// What the groups of a product fetch while they meet the units from `unit` on: as many bytes as those have.
template <class Tile, int Units>
inline prefetching shared_by_groups(const product_args& args, std::int64_t unit, const std::byte* end) {
  const std::int64_t one = tile_bytes(Tile::type, args.cols);
  const std::int64_t bytes = (Units + units_per_tile - 1) / units_per_tile * one;
  const std::int64_t meetings = (args.last_group - args.first_group) * (args.cols / quant_block);
  prefetching ahead;
  ahead.next = unit_start(args, unit, one) + bytes;
  if (ahead.next >= end) ahead.next = args.next_tiles;
  if (ahead.next != nullptr) ahead.end = ahead.next + bytes;
  ahead.step = (bytes / meetings + 63) / 64 * 64;
  return ahead;
}

template <class Tile, int Units>
inline void units_by_groups(const product_args& args, const token_groups& groups, std::int64_t unit, prefetching ahead) {
  constexpr int most = token_range<Tile, Units>::most;
  constexpr bool shared = is_quantised(Tile::type) && (Units > 1 || most > lone_stream_tokens);
  if constexpr (shared)
    if (ahead.end != nullptr) ahead = shared_by_groups<Tile, Units>(args, unit, ahead.end);
  for (std::int64_t g = args.first_group; g < args.last_group; ++g) {
    const token_group group = groups[g];
    const std::int64_t parts = (group.size + most - 1) / most;
    const std::int64_t count = (group.size + parts - 1) / parts;
    for (std::int64_t first = 0; first < group.size; first += count) {
      some_tokens<Tile, Units, most>(args, unit, group, first, count < group.size - first ? count : group.size - first, ahead);
      if (!shared) ahead.end = nullptr;  // once is enough
    }
  }
}

template <class Tile>
void product_on_vectors(const product_args& args) {
  const token_groups groups(args.tokens, args.grouping);
  const std::int64_t bytes = tile_bytes(args.type, args.cols);
  const std::byte* weights_end = args.tiles + (args.last - args.first) * bytes;
  const std::int64_t end = args.last * units_per_tile;
  std::int64_t unit = args.first * units_per_tile;
  constexpr std::int64_t tiles_at_once = (vec::units_at_once + units_per_tile - 1) / units_per_tile;
  constexpr int lone_units = is_quantised(Tile::type) ? 1 : lone_float_units;
  const bool lone = args.tokens <= lone_stream_tokens;
  const prefetching far{lone ? stream_ahead : tiles_at_once * bytes, weights_end};
  const auto ahead = [&](std::int64_t at) { return at % units_per_tile == 0 ? far : prefetching{}; };
  if (lone)
    for (; unit + lone_units <= end; unit += lone_units) units_by_groups<Tile, lone_units>(args, groups, unit, ahead(unit));
  else {
    constexpr int units = units_for_many<Tile>();
    if (units > vec::units_at_once && args.tokens > vec::grouping.largest)  // software prefetch only slows so many streams
      for (; unit + units <= end; unit += units) units_by_groups<Tile, units>(args, groups, unit, {});
    for (; unit + vec::units_at_once <= end; unit += vec::units_at_once)
      units_by_groups<Tile, vec::units_at_once>(args, groups, unit, ahead(unit));
  }
  for (; unit < end; ++unit) units_by_groups<Tile, 1>(args, groups, unit, ahead(unit));
}

/// A unit of tiles, where there is one, takes any number of tokens: product_ways says from how many on that pays.
template <class Tile>
void product_of(const product_args& args) {
  if constexpr (vec::has_tiles && (is_quantised(Tile::type) || Tile::type == memory::dtype::bf16))
    product_on_tiles<Tile>(args);
  else
    product_on_vectors<Tile>(args);
}

void product(const product_args& args) {
  const auto quantised = [&args](auto type) { product_of<quant_tile<type()>>(args); };
  if (with_quantised(args.type, quantised, quantised_types{})) return;
  if (args.type == memory::dtype::f16) return product_of<float_tile<memory::dtype::f16>>(args);
  if (args.type == memory::dtype::bf16) return product_of<float_tile<memory::dtype::bf16>>(args);
  product_of<float_tile<memory::dtype::f32>>(args);
}

void quantise(const float* x, std::int64_t n, std::int64_t group, std::int8_t* quants, activation_block* blocks) {
  for (std::int64_t b = 0; b < n / quant_block; ++b)
    vec::quantise_block(x + b * quant_block, quants + b * group * quant_block, blocks[b * group]);
}

}  // namespace
}  // namespace troupe::kernels
