// Products with float weights in terms of `vec`. Part of vector_kernels.hpp.
#pragma once

#include "kernels/cpu/vector_rows.hpp"
#include "kernels/cpu/vector_units.hpp"

// clang-format takes the pragma before a loop for a name.
// clang-format off

namespace troupe::kernels {
namespace {

template <memory::dtype Type>
struct float_tile {
  static constexpr memory::dtype type = Type;
  static constexpr std::int64_t bytes = Type == memory::dtype::f32 ? 4 : 2;             // of one number
  static constexpr std::int64_t together = Type == memory::dtype::bf16 ? 2 : 1;         // columns whose numbers alternate
  static constexpr bool halves = Type == memory::dtype::bf16 && vec::has_bf16_dots && !vec::has_tiles;     // activations in bf16 too
  static constexpr std::int64_t step_bytes = tile_rows * together * bytes;
};

constexpr std::int64_t halves_of(std::int64_t cols) { return halves_of(cols, vec::bf16_together); }

constexpr int lone_float_units = vec::units_at_once * 2;  // chains enough to hide the latency of a sum

/// Units x Tokens chains of sums, a step of one or two columns at a time.
template <class Tile, int Units, int Tokens, class Vec = vec>
inline void float_group(const product_args& args, std::int64_t unit, const token_group& group, std::int64_t first,
                        const prefetching& ahead) {
  const std::int64_t token = group.first + first;
  const std::int64_t steps = (args.cols + Tile::together - 1) / Tile::together;
  const float* x = args.x + token * args.x_stride;
  const std::uint16_t* pairs = nullptr;
  if constexpr (Tile::halves) pairs = args.halves + group.first * halves_of(args.cols) + first * 2;
  const std::byte* data[Units];
  vec::row_floats sums[Units][Tokens];
  TROUPE_UNROLL for (int u = 0; u < Units; ++u) {
    data[u] = unit_start(args, unit + u, tile_bytes(Tile::type, args.cols)) +
              (unit + u) % units_per_tile * vec::rows * Tile::together * Tile::bytes;
  }
  start_group(args, unit, token, sums);
  for (std::int64_t step = 0; step < steps; ++step) {
    TROUPE_UNROLL for (int u = 0; u < Units; ++u) {
      if (data[u] + ahead.distance < ahead.end) __builtin_prefetch(data[u] + ahead.distance);
      if constexpr (Tile::halves) {
        TROUPE_UNROLL for (int t = 0; t < Tokens; ++t) sums[u][t] = Vec::bf16_dots(sums[u][t], data[u], pairs + 2 * t);
      } else {
        TROUPE_UNROLL for (int k = 0; k < Tile::together; ++k) {
          if (Tile::together > 1 && step * Tile::together + k >= args.cols) break;
          const vec::row_floats w = vec::template load_weights<Tile::type>(data[u], k);
          TROUPE_UNROLL for (int t = 0; t < Tokens; ++t)
            sums[u][t] = vec::fma_rows(w, vec::set_rows(x[t * args.x_stride + step * Tile::together + k]), sums[u][t]);
        }
      }
      data[u] += Tile::step_bytes;
    }
    if constexpr (Tile::halves) pairs += group.size * 2;
  }
  store_group(args, unit, token, sums);
}

/// Rounded to the nearest.
template <class Vec>
void to_bf16(const float* x, std::int64_t n, std::int64_t group, std::uint16_t* out) {
  constexpr std::int64_t together = Vec::bf16_together, step = together < width ? together : width;
  std::uint16_t halves[width];
  for (std::int64_t i = 0; i < halves_of(n); i += width) {
    const std::int64_t count = n - i < width ? n - i : width;
    Vec::store_bf16(halves, count == width ? vec::load(x + i) : load_tail(x + i, count < 0 ? 0 : count));
    for (std::int64_t k = 0; k < width && i + k < halves_of(n); k += step)
      __builtin_memcpy(out + (i + k) / together * together * group + (i + k) % together, halves + k, step * 2);
  }
}

template <class Vec>
constexpr auto bf16_conversion() -> void (*)(const float*, std::int64_t, std::int64_t, std::uint16_t*) {
  if constexpr (Vec::has_bf16_dots) return to_bf16<Vec>;
  return nullptr;
}


}  // namespace
}  // namespace troupe::kernels
