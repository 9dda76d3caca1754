// Products on a unit that multiplies tiles of numbers (AMX), in terms of `vec`, part of vector_kernels.hpp; empty of
// code where vec has no tiles. Quantised sums are whole numbers within a block, and joined as everywhere: the same
// bits.
#pragma once

#include "kernels/cpu/vector_float_products.hpp"
#include "kernels/cpu/vector_tiles.hpp"
#include "kernels/cpu/vector_units.hpp"

// clang-format takes the pragma before a loop for a name.
// clang-format off

namespace troupe::kernels {
namespace {

/// Columns [first, last) of a product. An output is one chain over the columns in order, however they are cut.
struct columns {
  std::int64_t first = 0;
  std::int64_t last = 0;
};
constexpr std::int64_t panel_columns = 1024;  // decoded at once: 16 KiB

/// The weights of some columns as unsigned bytes, a block after another: 8 vectors, the v-th holds columns 4v to 4v+3.
template <class Tile>
inline void decode_columns(const std::byte* group, std::int64_t blocks, const prefetching& ahead, std::byte* panel) {
  for (std::int64_t b = 0; b < blocks; b += Tile::layout.blocks) {
    group += Tile::header_bytes;
    for (int in_group = 0; in_group < Tile::layout.blocks; ++in_group, group += Tile::block_bytes, panel += 512) {
      prefetch<Tile::block_bytes>(group, ahead);
      TROUPE_UNROLL for (int v = 0; v < 4; ++v) {
        vec::row_bytes low, high;
        load_pair<Tile>(group, v, low, high);
        vec::store_bytes(panel + v * 64, low);
        vec::store_bytes(panel + v * 64 + 256, high);
      }
    }
  }
}

/// The sums of one group of tokens over some columns of a tile. `data` is the tile's at those columns.
template <class Tile, class Vec>
inline void quants_on_tiles(const product_args& args, std::int64_t tile, const token_group& group, const columns& part,
                            const std::byte* data, const std::byte* panel) {
  alignas(64) float sums[16][16];
  alignas(64) std::int32_t dots[2][256];
  const std::int64_t first_block = part.first / quant_block, last_block = part.last / quant_block;
  const std::int64_t first_input = group.first * (args.cols / quant_block) + first_block * group.size;
  const std::int8_t* quants = args.quants + first_input * quant_block;
  const activation_block* inputs = args.blocks + first_input;
  for (std::int64_t t = 0; t < group.size; ++t)
    vec::store_rows(sums[t], start_rows(args, tile, group.first + t, args.add || part.first > 0));
  for (std::int64_t b = first_block; b < last_block; b += Tile::layout.blocks) {
    const group_header header = load_header<Tile>(data, 0);
    data += Tile::header_bytes;
    for (int in_group = 0; in_group < Tile::layout.blocks; ++in_group, data += Tile::block_bytes, panel += 512) {
      TROUPE_UNROLL for (int half = 0; half < Tile::halves; ++half)
        Vec::tile_dots(quants + half * 16, panel + half * 256, dots[half]);
      const scales_of_block scales = load_scales<Tile>(header, data + Tile::quant_bytes, 0);
      for (std::int64_t t = 0; t < group.size; ++t) {
        vec::row_sums both[2];
        both[0] = Vec::sums_of(dots[0] + t * 16, start_of<Tile, 0>(inputs[t]));
        if constexpr (Tile::halves == 2) both[1] = Vec::sums_of(dots[1] + t * 16, start_of<Tile, 1>(inputs[t]));
        vec::store_rows(sums[t], add_block<Tile>(vec::load_rows(sums[t]), both, scales, inputs[t]));
      }
      quants += group.size * quant_block;
      inputs += group.size;
    }
  }
  for (std::int64_t t = 0; t < group.size; ++t) store_sums(args, tile, group.first + t, vec::load_rows(sums[t]));
}

/// Units tiles by Groups groups of tokens over all columns, of which the last may not fill a step of 32.
template <int Units, int Groups, class Vec>
inline void halves_on_tiles(const product_args& args, std::int64_t tile, const token_groups& groups, std::int64_t g) {
  alignas(64) float sums[Units * Groups][256];
  alignas(64) std::byte last[Units][1024];
  const std::int64_t bytes = tile_bytes(memory::dtype::bf16, args.cols), steps = args.cols / 32, rest = args.cols % 32;
  const std::byte* weights[Units];
  const std::uint16_t* x[Groups];
  std::int64_t next[Groups];
  for (int u = 0; u < Units; ++u) weights[u] = args.tiles + (tile + u - args.first) * bytes;
  for (int i = 0; i < Groups; ++i) {
    x[i] = args.halves + groups[g + i].first * halves_of(args.cols);
    next[i] = groups[g + i].size * 32;
  }
  const auto each_row = [&](auto work) {
    for (int u = 0; u < Units; ++u)
      for (int i = 0; i < Groups; ++i)
        for (std::int64_t t = 0; t < groups[g + i].size; ++t) work(sums[u * Groups + i] + t * 16, tile + u, groups[g + i].first + t);
  };
  each_row([&](float* row, std::int64_t unit, std::int64_t token) { vec::store_rows(row, start_rows(args, unit, token, args.add)); });
  Vec::template tile_sums<Units, Groups>(x, next, weights, steps, sums);
  if (rest > 0) {
    const std::int64_t used = (rest + 1) / 2 * 64;
    for (int u = 0; u < Units; ++u) {
      __builtin_memset(last[u], 0, sizeof last[u]);
      __builtin_memcpy(last[u], weights[u] + steps * 1024, static_cast<std::size_t>(used));
      weights[u] = last[u];
    }
    for (int i = 0; i < Groups; ++i) x[i] += steps * next[i];
    Vec::template tile_sums<Units, Groups>(x, next, weights, 1, sums);
  }
  each_row([&](float* row, std::int64_t unit, std::int64_t token) { store_sums(args, unit, token, vec::load_rows(row)); });
}

template <int Units, class Vec>
inline void halves_of_units(const product_args& args, std::int64_t tile, const token_groups& groups) {
  std::int64_t g = args.first_group;
  for (; g + 2 <= args.last_group; g += 2) halves_on_tiles<Units, 2, Vec>(args, tile, groups, g);
  if (g < args.last_group) halves_on_tiles<Units, 1, Vec>(args, tile, groups, g);
}

template <class Tile, class Vec = vec>
void product_on_tiles(const product_args& args) {
  const token_groups groups(args.tokens, args.grouping);
  if constexpr (is_quantised(Tile::type)) {
    alignas(64) std::byte panel[panel_columns * tile_rows];
    const std::int64_t bytes = tile_bytes(Tile::type, args.cols);
    const prefetching ahead{bytes, args.tiles + (args.last - args.first) * bytes};
    Vec::begin_tiles(32 / Tile::halves);
    for (std::int64_t tile = args.first; tile < args.last; ++tile)
      for (columns part{0, 0}; part.first < args.cols; part.first = part.last) {
        part.last = part.first + panel_columns < args.cols ? part.first + panel_columns : args.cols;
        const std::byte* data = args.tiles + (tile - args.first) * bytes + part.first / Tile::columns_together * Tile::group_bytes;
        decode_columns<Tile>(data, (part.last - part.first) / quant_block, ahead, panel);
        for (std::int64_t g = args.first_group; g < args.last_group; ++g)
          quants_on_tiles<Tile, Vec>(args, tile, groups[g], part, data, panel);
      }
  } else {
    Vec::begin_tiles(64);
    std::int64_t tile = args.first;
    for (; tile + 2 <= args.last; tile += 2) halves_of_units<2, Vec>(args, tile, groups);
    if (tile < args.last) halves_of_units<1, Vec>(args, tile, groups);
  }
  Vec::end_tiles();
}

}  // namespace
}  // namespace troupe::kernels
