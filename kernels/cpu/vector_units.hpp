// Units of a tile, where their sums begin and end, and what to prefetch: shared by all products. In terms of `vec`, part
// of vector_kernels.hpp.
#pragma once

#include "kernels/cpu/kernel_set.hpp"
#include "kernels/cpu/packed_tiles.hpp"

// clang-format takes the pragma before a loop for a name.
// clang-format off

namespace troupe::kernels {
namespace {

// A unit is vec::rows rows: a tile, or a half of one.
constexpr std::int64_t units_per_tile = tile_rows / vec::rows;

inline const std::byte* unit_start(const product_args& args, std::int64_t unit, std::int64_t bytes_per_tile) {
  return args.tiles + (unit / units_per_tile - args.first) * bytes_per_tile;
}

/// Where the sums of an output begin: at what is there if the product adds, or if earlier columns were summed into it.
inline vec::row_floats start_rows(const product_args& args, std::int64_t unit, std::int64_t token, bool from_out) {
  if (!from_out) return vec::zero_rows();
  const std::int64_t row = unit * vec::rows;
  const float* out = args.out + token * args.out_stride + row;
  if (row + vec::rows <= args.rows) return vec::load_rows(out);
  float all[vec::rows] = {};
  for (std::int64_t r = 0; row + r < args.rows; ++r) all[r] = out[r];
  return vec::load_rows(all);
}

inline void store_sums(const product_args& args, std::int64_t unit, std::int64_t token, vec::row_floats value) {
  const std::int64_t row = unit * vec::rows;
  float* out = args.out + token * args.out_stride + row;
  if (row + vec::rows <= args.rows) return vec::store_rows(out, value);
  float all[vec::rows];
  vec::store_rows(all, value);
  for (std::int64_t r = 0; row + r < args.rows; ++r) out[r] = all[r];
}

/// Columns [first, last) of a product. An output is one chain over the columns in order, however they are cut.
struct columns {
  std::int64_t first = 0;
  std::int64_t last = 0;
};
constexpr std::int64_t near_weight_bytes = 24 * 1024;  // of the units at hand: half of an L1 cache

// One row of tiles alone streams from memory fastest with the tiles some way ahead already under way; where several
// tokens make the sums the longer part, the next units arrive in that time.
constexpr int lone_stream_tokens = 3;
constexpr std::int64_t stream_ahead = 8192;

/// What of the weights the next blocks will want, and where the thread's share of them ends.
struct prefetching {
  std::int64_t distance = 0;
  const std::byte* end = nullptr;
};

}  // namespace
}  // namespace troupe::kernels
