// Products with quantised and float weights in terms of `vec`. Part of vector_kernels.hpp, which says what `vec` provides.
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

template <std::int64_t Bytes>
inline void prefetch(const std::byte* data, const prefetching& ahead) {
  if (data + ahead.distance >= ahead.end) return;
  TROUPE_UNROLL for (std::int64_t at = 0; at < Bytes; at += 64) __builtin_prefetch(data + ahead.distance + at);
}

/// The one place where quantised outputs are summed: Units x Tokens of them at once, tokens [first, first + Tokens) of
/// a group.
template <class Tile, int Units, int Tokens>
inline void quantised_group(const product_args& args, std::int64_t unit, const token_group& group, std::int64_t first,
                            const columns& part, const prefetching& ahead) {
  const std::int64_t first_block = part.first / quant_block, last_block = part.last / quant_block;
  const std::int64_t first_input = group.first * (args.cols / quant_block) + first_block * group.size + first;
  const std::int8_t* quants = args.quants + first_input * quant_block;
  const activation_block* inputs = args.blocks + first_input;
  const std::byte* data[Units];
  int rows[Units];  // which of the tile
  vec::row_floats sums[Units][Tokens];
  TROUPE_UNROLL for (int u = 0; u < Units; ++u) {
    data[u] = unit_start(args, unit + u, tile_bytes(Tile::type, args.cols)) + first_block / Tile::layout.blocks * Tile::group_bytes;
    rows[u] = static_cast<int>((unit + u) % units_per_tile);
    TROUPE_UNROLL for (int t = 0; t < Tokens; ++t)
      sums[u][t] = start_rows(args, unit + u, group.first + first + t, args.add || part.first > 0);
  }
  for (std::int64_t b = first_block; b < last_block; b += Tile::layout.blocks) {
    group_header headers[Units];
    TROUPE_UNROLL for (int u = 0; u < Units; ++u) {
      headers[u] = load_header<Tile>(data[u], rows[u]);
      data[u] += Tile::header_bytes;
    }
    for (int in_group = 0; in_group < Tile::layout.blocks; ++in_group) {
      const std::byte* weights[Units];
      vec::row_sums dots[Units][Tokens][2];
      TROUPE_UNROLL for (int u = 0; u < Units; ++u) {
        prefetch<Tile::block_bytes + Tile::header_bytes / Tile::layout.blocks>(data[u], ahead);
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
  TROUPE_UNROLL for (int u = 0; u < Units; ++u)
    TROUPE_UNROLL for (int t = 0; t < Tokens; ++t) store_sums(args, unit + u, group.first + first + t, sums[u][t]);
}

template <class Tile, int Units, int Tokens>
inline void tokens_at_once(const product_args& args, std::int64_t unit, const token_group& group, std::int64_t first,
                           const columns& part, const prefetching& ahead) {
  if constexpr (is_quantised(Tile::type))
    quantised_group<Tile, Units, Tokens>(args, unit, group, first, part, ahead);
  else
    float_group<Tile, Units, Tokens>(args, unit, group, first, part, ahead);
}

/// How many tokens Units meet at once. Few variants: each is compiled for every type. Groups of the usual kind have four
/// tokens or more where more than lone_stream_tokens are multiplied.
template <int Units>
struct token_range {
  static constexpr bool wide = Units == vec::units_at_once;
  static constexpr int most = wide ? vec::tokens_at_once : lone_stream_tokens;
  static constexpr int least = wide && Units > 1 && most >= vec::grouping.largest ? lone_stream_tokens + 1 : 1;
};

/// `count` tokens of a group, at most Tokens.
template <class Tile, int Units, int Tokens>
inline void some_tokens(const product_args& args, std::int64_t unit, const token_group& group, std::int64_t first,
                        std::int64_t count, const columns& part, const prefetching& ahead) {
  if constexpr (Tokens >= token_range<Units>::least) {
    if (count == Tokens) return tokens_at_once<Tile, Units, Tokens>(args, unit, group, first, part, ahead);
    some_tokens<Tile, Units, Tokens - 1>(args, unit, group, first, count, part, ahead);
  }
}

/// How many columns are gone through for all tokens before the next ones: where many tokens make it worth while, as few
/// that the weights of the units at hand stay in the L1 cache.
template <class Tile>
inline std::int64_t columns_at_once(const product_args& args) {
  if (args.tokens <= vec::grouping.largest) return args.cols;
  const std::int64_t bytes = tile_bytes(Tile::type, args.cols) * vec::units_at_once / units_per_tile;
  const std::int64_t parts = (bytes + near_weight_bytes - 1) / near_weight_bytes;
  return ((args.cols + parts - 1) / parts + Tile::columns_together - 1) / Tile::columns_together * Tile::columns_together;
}

template <class Tile, int Units>
inline void units_by_groups(const product_args& args, const token_groups& groups, std::int64_t unit, prefetching ahead) {
  constexpr int most = token_range<Units>::most;
  const std::int64_t step = columns_at_once<Tile>(args);
  for (columns part{0, 0}; part.first < args.cols; part.first = part.last) {
    part.last = part.first + step < args.cols ? part.first + step : args.cols;
    prefetching once = ahead;
    for (std::int64_t g = args.first_group; g < args.last_group; ++g) {
      const token_group group = groups[g];
      const std::int64_t parts = (group.size + most - 1) / most;
      const std::int64_t count = (group.size + parts - 1) / parts;
      for (std::int64_t first = 0; first < group.size; first += count) {
        some_tokens<Tile, Units, most>(args, unit, group, first, count < group.size - first ? count : group.size - first, part, once);
        once.end = nullptr;
      }
    }
  }
}

template <class Tile>
void product_of(const product_args& args) {
  if constexpr (vec::has_tiles && (is_quantised(Tile::type) || Tile::type == memory::dtype::bf16))
    if (tile_unit_pays<Tile>(args)) return product_on_tiles<Tile>(args);
  const token_groups groups(args.tokens, vec::grouping);
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
  else
    for (; unit + vec::units_at_once <= end; unit += vec::units_at_once)
      units_by_groups<Tile, vec::units_at_once>(args, groups, unit, ahead(unit));
  for (; unit < end; ++unit) units_by_groups<Tile, 1>(args, groups, unit, ahead(unit));
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
