// Products with quantised and float weights in terms of `vec`. Part of vector_kernels.hpp, which says what `vec` provides.
#pragma once

#include "kernels/cpu/kernel_set.hpp"
#include "kernels/cpu/packed_tiles.hpp"
#include "kernels/cpu/vector_float_products.hpp"
#include "kernels/cpu/vector_units.hpp"

// clang-format takes the pragma before a loop for a name.
// clang-format off

namespace troupe::kernels {
namespace {

struct q4_0_tile {
  static constexpr memory::dtype type = memory::dtype::q4_0;
  static constexpr bool nibbles = true;
  static constexpr bool has_min = false;
  static constexpr std::int64_t bytes = 288;
  static std::int32_t start(const activation_block& a) { return a.start8; }
};
struct q4_1_tile {
  static constexpr memory::dtype type = memory::dtype::q4_1;
  static constexpr bool nibbles = true;
  static constexpr bool has_min = true;
  static constexpr std::int64_t bytes = 320;
  static std::int32_t start(const activation_block&) { return 0; }
};
struct q8_0_tile {
  static constexpr memory::dtype type = memory::dtype::q8_0;
  static constexpr bool nibbles = false;
  static constexpr bool has_min = false;
  static constexpr std::int64_t bytes = 544;
  static std::int32_t start(const activation_block& a) { return a.start128; }
};

template <class Tile>
inline void prefetch_block(const std::byte* block, const prefetching& ahead) {
  if (block + ahead.distance >= ahead.end) return;
  TROUPE_UNROLL for (std::int64_t at = 0; at < Tile::bytes; at += 64) __builtin_prefetch(block + ahead.distance + at);
}

/// The one place where quantised outputs are summed: Units x Tokens of them at once, tokens [first, first + Tokens) of
/// a group.
template <class Tile, int Units, int Tokens>
inline void quantised_group(const product_args& args, std::int64_t unit, const token_group& group, std::int64_t first,
                            const prefetching& ahead) {
  const std::int64_t blocks = args.cols / quant_block;
  const std::int8_t* quants = args.quants + group.first * args.cols + first * quant_block;
  const activation_block* inputs = args.blocks + group.first * blocks + first;
  const std::byte* data[Units];
  TROUPE_UNROLL for (int u = 0; u < Units; ++u) data[u] = unit_start(args, unit + u, blocks * Tile::bytes);
  vec::row_floats sums[Units][Tokens];
  TROUPE_UNROLL for (int u = 0; u < Units; ++u)
    TROUPE_UNROLL for (int t = 0; t < Tokens; ++t) sums[u][t] = vec::zero_rows();
  for (std::int64_t b = 0; b < blocks; ++b) {
    vec::row_ints dots[Units][Tokens];
    TROUPE_UNROLL for (int u = 0; u < Units; ++u) {
      prefetch_block<Tile>(data[u], ahead);
      TROUPE_UNROLL for (int t = 0; t < Tokens; ++t) dots[u][t] = vec::set_ints(Tile::start(inputs[t]));
    }
    vec::block_dots<Tile, Units, Tokens>(data, unit, quants, dots);
    TROUPE_UNROLL for (int u = 0; u < Units; ++u) {
      const std::byte* scales = data[u] + (Tile::nibbles ? 256 : 512) + (unit + u) % units_per_tile * vec::rows * 2;
      const vec::row_floats d = vec::load_half(scales);
      TROUPE_UNROLL for (int t = 0; t < Tokens; ++t) {
        const vec::row_floats scale = vec::mul_rows(d, vec::set_rows(inputs[t].scale));
        sums[u][t] = vec::fma_rows(vec::to_floats(dots[u][t]), scale, sums[u][t]);
      }
      if constexpr (Tile::has_min) {
        const vec::row_floats m = vec::load_half(scales + 32);
        TROUPE_UNROLL for (int t = 0; t < Tokens; ++t)
          sums[u][t] = vec::fma_rows(m, vec::set_rows(inputs[t].scaled_sum), sums[u][t]);
      }
      data[u] += Tile::bytes;
    }
    quants += group.size * quant_block;
    inputs += group.size;
  }
  TROUPE_UNROLL for (int u = 0; u < Units; ++u)
    TROUPE_UNROLL for (int t = 0; t < Tokens; ++t) write_rows(args, unit + u, group.first + first + t, sums[u][t]);
}

template <class Tile, int Units, int Tokens>
inline void tokens_at_once(const product_args& args, std::int64_t unit, const token_group& group, std::int64_t first,
                           const columns& part, const prefetching& ahead) {
  if constexpr (is_quantised(Tile::type))
    quantised_group<Tile, Units, Tokens>(args, unit, group, first, ahead);
  else
    float_group<Tile, Units, Tokens>(args, unit, group, first, part, ahead);
}

/// `count` tokens of a group, at most Tokens.
template <class Tile, int Units, int Tokens>
inline void some_tokens(const product_args& args, std::int64_t unit, const token_group& group, std::int64_t first,
                        std::int64_t count, const columns& part, const prefetching& ahead) {
  if constexpr (Tokens > 0) {
    if (count == Tokens) return tokens_at_once<Tile, Units, Tokens>(args, unit, group, first, part, ahead);
    some_tokens<Tile, Units, Tokens - 1>(args, unit, group, first, count, part, ahead);
  }
}

/// The columns that are gone through for all tokens before the next ones: where many tokens make it worth while, as few
/// that the weights of the units at hand stay in the L1 cache.
template <class Tile>
inline std::int64_t columns_at_once(const product_args& args) {
  if constexpr (is_quantised(Tile::type)) return args.cols;
  if (args.tokens <= token_groups::largest) return args.cols;
  return near_weight_bytes / (vec::units_at_once * vec::rows * Tile::bytes) / 32 * 32;
}

template <class Tile, int Units>
inline void units_by_groups(const product_args& args, const token_groups& groups, std::int64_t unit, prefetching ahead) {
  constexpr int most = vec::tokens_at_once;
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
  const token_groups groups(args.tokens);
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
  switch (args.type) {
    case memory::dtype::q4_0: return product_of<q4_0_tile>(args);
    case memory::dtype::q4_1: return product_of<q4_1_tile>(args);
    case memory::dtype::q8_0: return product_of<q8_0_tile>(args);
    case memory::dtype::f16: return product_of<float_tile<memory::dtype::f16>>(args);
    case memory::dtype::bf16: return product_of<float_tile<memory::dtype::bf16>>(args);
    case memory::dtype::f32:
    case memory::dtype::i32: return product_of<float_tile<memory::dtype::f32>>(args);
  }
}

void quantise(const float* x, std::int64_t n, std::int64_t group, std::int8_t* quants, activation_block* blocks) {
  for (std::int64_t b = 0; b < n / quant_block; ++b)
    vec::quantise_block(x + b * quant_block, quants + b * group * quant_block, blocks[b * group]);
}

}  // namespace
}  // namespace troupe::kernels
