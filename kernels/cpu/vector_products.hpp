// Products with quantised and float weights in terms of `vec`. Part of vector_kernels.hpp, which says what `vec` provides.
#pragma once

#include "kernels/cpu/kernel_set.hpp"
#include "kernels/cpu/packed_tiles.hpp"

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

template <memory::dtype Type>
struct float_tile {
  static constexpr memory::dtype type = Type;
  static constexpr std::int64_t bytes = Type == memory::dtype::f32 ? 4 : 2;  // of one number
};

// A unit is vec::rows rows: a tile, or a half of one.
constexpr std::int64_t units_per_tile = tile_rows / vec::rows;

inline const std::byte* unit_start(const product_args& args, std::int64_t unit, std::int64_t bytes_per_tile) {
  return args.tiles + (unit / units_per_tile - args.first) * bytes_per_tile;
}

inline void write_rows(const product_args& args, std::int64_t unit, std::int64_t token, vec::row_floats value) {
  const std::int64_t row = unit * vec::rows;
  float* out = args.out + token * args.out_stride + row;
  if (row + vec::rows <= args.rows) {
    vec::store_rows(out, args.add ? vec::add_rows(vec::load_rows(out), value) : value);
    return;
  }
  float all[vec::rows];
  vec::store_rows(all, value);
  for (std::int64_t r = 0; row + r < args.rows; ++r) out[r] = args.add ? out[r] + all[r] : all[r];
}

// One row of tiles alone streams from memory fastest with the tiles some way ahead already under way; where several
// tokens make the sums the longer part, the next units arrive in that time.
constexpr int lone_stream_tokens = 3;
constexpr std::int64_t stream_ahead = 8192;

/// What of the weights the next blocks will want, and where the thread's share of them ends.
struct prefetching {
  std::int64_t distance = 0;
  const std::byte* end = nullptr;
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
inline void float_group(const product_args& args, std::int64_t unit, std::int64_t token) {
  const float* x = args.x + token * args.x_stride;
  const std::byte* data[Units];
  vec::row_floats sums[Units][Tokens];
  TROUPE_UNROLL for (int u = 0; u < Units; ++u) {
    data[u] = unit_start(args, unit + u, args.cols * tile_rows * Tile::bytes) +
              (unit + u) % units_per_tile * vec::rows * Tile::bytes;
    TROUPE_UNROLL for (int t = 0; t < Tokens; ++t) sums[u][t] = vec::zero_rows();
  }
  for (std::int64_t c = 0; c < args.cols; ++c)
    TROUPE_UNROLL for (int u = 0; u < Units; ++u) {
      const vec::row_floats w = vec::load_weights<Tile::type>(data[u] + c * tile_rows * Tile::bytes);
      TROUPE_UNROLL for (int t = 0; t < Tokens; ++t)
        sums[u][t] = vec::fma_rows(w, vec::set_rows(x[t * args.x_stride + c]), sums[u][t]);
    }
  TROUPE_UNROLL for (int u = 0; u < Units; ++u)
    TROUPE_UNROLL for (int t = 0; t < Tokens; ++t) write_rows(args, unit + u, token + t, sums[u][t]);
}

template <class Tile, int Units, int Tokens>
inline void tokens_at_once(const product_args& args, std::int64_t unit, const token_group& group, std::int64_t first,
                           const prefetching& ahead) {
  if constexpr (is_quantised(Tile::type))
    quantised_group<Tile, Units, Tokens>(args, unit, group, first, ahead);
  else
    float_group<Tile, Units, Tokens>(args, unit, group.first + first);
}

/// `count` tokens of a group, at most Tokens.
template <class Tile, int Units, int Tokens>
inline void some_tokens(const product_args& args, std::int64_t unit, const token_group& group, std::int64_t first,
                        std::int64_t count, const prefetching& ahead) {
  if constexpr (Tokens > 0) {
    if (count == Tokens) return tokens_at_once<Tile, Units, Tokens>(args, unit, group, first, ahead);
    some_tokens<Tile, Units, Tokens - 1>(args, unit, group, first, count, ahead);
  }
}

template <class Tile, int Units>
inline void units_by_groups(const product_args& args, const token_groups& groups, std::int64_t unit, prefetching ahead) {
  constexpr int most = vec::tokens_at_once;
  for (std::int64_t g = args.first_group; g < args.last_group; ++g) {
    const token_group group = groups[g];
    const std::int64_t parts = (group.size + most - 1) / most;
    const std::int64_t count = (group.size + parts - 1) / parts;
    for (std::int64_t first = 0; first < group.size; first += count) {
      some_tokens<Tile, Units, most>(args, unit, group, first, count < group.size - first ? count : group.size - first, ahead);
      ahead.end = nullptr;  // once is enough
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
  const prefetching far{args.tokens > lone_stream_tokens ? tiles_at_once * bytes : stream_ahead, weights_end};
  if (args.tokens > lone_stream_tokens)
    for (; unit + vec::units_at_once <= end; unit += vec::units_at_once)
      units_by_groups<Tile, vec::units_at_once>(args, groups, unit, unit % units_per_tile == 0 ? far : prefetching{});
  for (; unit < end; ++unit) units_by_groups<Tile, 1>(args, groups, unit, unit % units_per_tile == 0 ? far : prefetching{});
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
