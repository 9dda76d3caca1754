// Units of a tile, where their sums begin and end, and what to prefetch: shared by all products. In terms of `vec`,
// part of vector_kernels.hpp.
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
[[gnu::noinline]] inline vec::row_floats start_rows(const product_args& args, std::int64_t unit, std::int64_t token,
                                                    bool from_out) {
  if (!from_out) return vec::zero_rows();
  const std::int64_t row = unit * vec::rows;
  const float* out = args.out + token * args.out_stride + row;
  if (row + vec::rows <= args.rows) return vec::load_rows(out);
  float all[vec::rows] = {};
  for (std::int64_t r = 0; row + r < args.rows; ++r) all[r] = out[r];
  return vec::load_rows(all);
}

[[gnu::noinline]] inline void store_sums(const product_args& args, std::int64_t unit, std::int64_t token,
                                         vec::row_floats value) {
  const std::int64_t row = unit * vec::rows;
  float* out = args.out + token * args.out_stride + row;
  if (row + vec::rows <= args.rows) return vec::store_rows(out, value);
  float all[vec::rows];
  vec::store_rows(all, value);
  for (std::int64_t r = 0; row + r < args.rows; ++r) out[r] = all[r];
}

/// The same of Units x Tokens outputs. Nearly all units are whole, which is asked once for all of them.
template <int Units, int Tokens>
inline void start_group(const product_args& args, std::int64_t unit, std::int64_t token,
                        vec::row_floats (&sums)[Units][Tokens]) {
  const std::int64_t row = unit * vec::rows;
  const float* out = args.out + token * args.out_stride + row;
  const bool whole = row + Units * vec::rows <= args.rows;
  TROUPE_UNROLL for (int t = 0; t < Tokens; ++t, out += args.out_stride)
    TROUPE_UNROLL for (int u = 0; u < Units; ++u)
      sums[u][t] = args.add && whole ? vec::load_rows(out + u * vec::rows) : vec::zero_rows();
  if (args.add && !whole) [[unlikely]] {
    TROUPE_UNROLL for (int t = 0; t < Tokens; ++t)
      TROUPE_UNROLL for (int u = 0; u < Units; ++u) sums[u][t] = start_rows(args, unit + u, token + t, true);
  }
}

template <int Units, int Tokens>
inline void store_group(const product_args& args, std::int64_t unit, std::int64_t token,
                        const vec::row_floats (&sums)[Units][Tokens]) {
  const std::int64_t row = unit * vec::rows;
  float* out = args.out + token * args.out_stride + row;
  if (row + Units * vec::rows <= args.rows) [[likely]] {
    TROUPE_UNROLL for (int t = 0; t < Tokens; ++t, out += args.out_stride)
      TROUPE_UNROLL for (int u = 0; u < Units; ++u) vec::store_rows(out + u * vec::rows, sums[u][t]);
  } else {
    TROUPE_UNROLL for (int t = 0; t < Tokens; ++t)
      TROUPE_UNROLL for (int u = 0; u < Units; ++u) store_sums(args, unit + u, token + t, sums[u][t]);
  }
}

// One row of tiles alone streams from memory fastest with the tiles some way ahead already under way; where several
// tokens make the sums the longer part, the next units arrive in that time.
constexpr int lone_stream_tokens = 3;
constexpr std::int64_t stream_ahead = 8192;

/// What of the thread's weights to fetch while others are multiplied. One token, and float weights: what lies `distance` on.
/// Several tokens, whose groups meet the same units one after another: what comes after these units, a little in every block
/// of every group, so that memory has as long for it as all the groups compute.
struct prefetching {
  std::int64_t distance = 0;
  const std::byte* end = nullptr;   ///< of the weights
  const std::byte* next = nullptr;  ///< where groups go on
  std::int64_t step = 0;            ///< bytes a block, whole lines
};

/// Bytes of what lies ahead of `data`.
template <std::int64_t Bytes>
inline void prefetch(const std::byte* data, const prefetching& ahead) {
  if (data + ahead.distance >= ahead.end) return;
  TROUPE_UNROLL for (std::int64_t at = 0; at < Bytes; at += 64) __builtin_prefetch(data + ahead.distance + at);
}

/// At most Bytes of what groups fetch.
template <std::int64_t Bytes>
inline void prefetch_next(prefetching& ahead) {
  if (ahead.next >= ahead.end) return;
  TROUPE_UNROLL for (std::int64_t at = 0; at < Bytes; at += 64) {
    if (at >= ahead.step) break;
    __builtin_prefetch(ahead.next + at);
  }
  ahead.next += ahead.step;
}

}  // namespace
}  // namespace troupe::kernels
