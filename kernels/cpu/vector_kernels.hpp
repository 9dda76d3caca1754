// The kernels in terms of `vec`, a struct of static functions that names one instruction set's operations. Included by
// exactly one source file for each instruction set, after its `vec`: everything is in an unnamed namespace, so that no
// code compiled for one processor can be linked into another's path. Knows no intrinsic.
//
// vec provides: f32x16 (16 floats) with load, store, set, add, sub, mul, fma(a, b, c) = a * b + c, max, sum, max_of,
// load_f16, store_f16, load_bf16, exp2i (2^n for integral n), round, below(x, limit) ? 0 : y; and for products, on
// `rows` rows at a time, block_dots, to_floats, load_half, load_rows, store_rows; and quantise_block.
#pragma once

#include "kernels/cpu/kernel_set.hpp"
#include "kernels/cpu/packed_tiles.hpp"

// clang-format takes the pragma before a loop for a name.
// clang-format off

#if defined(__clang__)
#define TROUPE_UNROLL _Pragma("unroll")
#else
#define TROUPE_UNROLL _Pragma("GCC unroll 32")
#endif

namespace troupe::kernels {
namespace {

using f32x16 = vec::f32x16;
constexpr std::int64_t width = 16;

// --- products ---------------------------------------------------------------------------------------------------

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

/// The one place where quantised outputs are summed: Units x Tokens of them at once, in registers.
template <class Tile, int Units, int Tokens>
inline void quantised_group(const product_args& args, std::int64_t unit, std::int64_t token) {
  const std::int64_t blocks = args.cols / quant_block;
  const std::int8_t* quants = args.quants + token * args.cols;
  const activation_block* inputs = args.blocks + token * blocks;
  const std::byte* data[Units];
  TROUPE_UNROLL for (int u = 0; u < Units; ++u) data[u] = unit_start(args, unit + u, blocks * Tile::bytes);
  vec::row_floats sums[Units][Tokens];
  TROUPE_UNROLL for (int u = 0; u < Units; ++u)
    TROUPE_UNROLL for (int t = 0; t < Tokens; ++t) sums[u][t] = vec::zero_rows();
  for (std::int64_t b = 0; b < blocks; ++b) {
    vec::row_ints dots[Units][Tokens];
    TROUPE_UNROLL for (int u = 0; u < Units; ++u)
      TROUPE_UNROLL for (int t = 0; t < Tokens; ++t) dots[u][t] = vec::set_ints(Tile::start(inputs[t * blocks + b]));
    vec::block_dots<Tile, Units, Tokens>(data, unit, quants + b * quant_block, args.cols, dots);
    TROUPE_UNROLL for (int u = 0; u < Units; ++u) {
      const std::byte* scales = data[u] + (Tile::nibbles ? 256 : 512) + (unit + u) % units_per_tile * vec::rows * 2;
      const vec::row_floats d = vec::load_half(scales);
      TROUPE_UNROLL for (int t = 0; t < Tokens; ++t) {
        const vec::row_floats scale = vec::mul_rows(d, vec::set_rows(inputs[t * blocks + b].scale));
        sums[u][t] = vec::fma_rows(vec::to_floats(dots[u][t]), scale, sums[u][t]);
      }
      if constexpr (Tile::has_min) {
        const vec::row_floats m = vec::load_half(scales + 32);
        TROUPE_UNROLL for (int t = 0; t < Tokens; ++t)
          sums[u][t] = vec::fma_rows(m, vec::set_rows(inputs[t * blocks + b].scaled_sum), sums[u][t]);
      }
      data[u] += Tile::bytes;
    }
  }
  TROUPE_UNROLL for (int u = 0; u < Units; ++u)
    TROUPE_UNROLL for (int t = 0; t < Tokens; ++t) write_rows(args, unit + u, token + t, sums[u][t]);
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
inline void group(const product_args& args, std::int64_t unit, std::int64_t token) {
  if constexpr (is_quantised(Tile::type))
    quantised_group<Tile, Units, Tokens>(args, unit, token);
  else
    float_group<Tile, Units, Tokens>(args, unit, token);
}

/// The last tokens, fewer than a full group.
template <class Tile, int Units, int Tokens>
inline void remaining_tokens(const product_args& args, std::int64_t unit, std::int64_t token) {
  if constexpr (Tokens > 0) {
    if (args.tokens - token == Tokens) return group<Tile, Units, Tokens>(args, unit, token);
    remaining_tokens<Tile, Units, Tokens - 1>(args, unit, token);
  }
}

template <class Tile, int Units>
inline void units_by_tokens(const product_args& args, std::int64_t unit) {
  constexpr int at_once = vec::tokens_at_once;
  std::int64_t token = 0;
  for (; token + at_once <= args.tokens; token += at_once) group<Tile, Units, at_once>(args, unit, token);
  remaining_tokens<Tile, Units, at_once - 1>(args, unit, token);
}

template <class Tile>
void product_of(const product_args& args) {
  const std::int64_t end = args.last * units_per_tile;
  std::int64_t unit = args.first * units_per_tile;
  for (; unit + vec::units_at_once <= end; unit += vec::units_at_once) units_by_tokens<Tile, vec::units_at_once>(args, unit);
  for (; unit < end; ++unit) units_by_tokens<Tile, 1>(args, unit);
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

void quantise(const float* x, std::int64_t n, std::int8_t* quants, activation_block* blocks) {
  for (std::int64_t b = 0; b < n / quant_block; ++b)
    vec::quantise_block(x + b * quant_block, quants + b * quant_block, blocks[b]);
}

// --- rows -------------------------------------------------------------------------------------------------------

/// e^x, relative error about 1e-7; 0 below -87.3. 2^n * p(r), |r| <= ln2/2, p the Cephes single-precision polynomial.
inline f32x16 exponential(f32x16 x) {
  const f32x16 bounded = vec::min(vec::max(x, vec::set(-88.0f)), vec::set(88.0f));
  const f32x16 n = vec::round(vec::mul(bounded, vec::set(1.44269504f)));
  const f32x16 r = vec::fma(n, vec::set(2.12194440e-4f), vec::fma(n, vec::set(-0.693359375f), bounded));
  f32x16 p = vec::set(1.9875691500e-4f);
  p = vec::fma(p, r, vec::set(1.3981999507e-3f));
  p = vec::fma(p, r, vec::set(8.3334519073e-3f));
  p = vec::fma(p, r, vec::set(4.1665795894e-2f));
  p = vec::fma(p, r, vec::set(1.6666665459e-1f));
  p = vec::fma(p, r, vec::set(5.0000001201e-1f));
  p = vec::fma(vec::mul(p, r), r, vec::add(r, vec::set(1.0f)));
  return vec::zero_where_below(x, -87.3f, vec::mul(p, vec::exp2i(n)));
}

/// Loads the last n < 16 numbers; the rest is 0.
inline f32x16 load_tail(const float* x, std::int64_t n) {
  float all[width] = {};
  for (std::int64_t i = 0; i < n; ++i) all[i] = x[i];
  return vec::load(all);
}
inline void store_tail(float* out, f32x16 value, std::int64_t n) {
  float all[width];
  vec::store(all, value);
  for (std::int64_t i = 0; i < n; ++i) out[i] = all[i];
}

void rms_norm(const float* x, const float* weight, std::int64_t n, float eps, float* out) {
  f32x16 squares[4] = {vec::set(0), vec::set(0), vec::set(0), vec::set(0)};
  std::int64_t i = 0;
  for (; i + 4 * width <= n; i += 4 * width)
    TROUPE_UNROLL for (int k = 0; k < 4; ++k) {
      const f32x16 v = vec::load(x + i + k * width);
      squares[k] = vec::fma(v, v, squares[k]);
    }
  for (; i < n; i += width) {
    const f32x16 v = n - i >= width ? vec::load(x + i) : load_tail(x + i, n - i);
    squares[0] = vec::fma(v, v, squares[0]);
  }
  const float total = vec::sum(vec::add(vec::add(squares[0], squares[1]), vec::add(squares[2], squares[3])));
  const f32x16 factor = vec::set(1.0f / __builtin_sqrtf(total / static_cast<float>(n) + eps));
  for (i = 0; i + width <= n; i += width)
    vec::store(out + i, vec::mul(vec::mul(vec::load(x + i), factor), vec::load(weight + i)));
  if (i < n)
    store_tail(out + i, vec::mul(vec::mul(load_tail(x + i, n - i), factor), load_tail(weight + i, n - i)), n - i);
}

inline f32x16 gated(f32x16 gate, f32x16 up) {
  const f32x16 one = vec::set(1.0f);
  return vec::mul(vec::div(gate, vec::add(one, exponential(vec::sub(vec::set(0.0f), gate)))), up);
}

void silu_mul(const float* gate, const float* up, std::int64_t n, float* out) {
  std::int64_t i = 0;
  for (; i + width <= n; i += width) vec::store(out + i, gated(vec::load(gate + i), vec::load(up + i)));
  if (i < n) store_tail(out + i, gated(load_tail(gate + i, n - i), load_tail(up + i, n - i)), n - i);
}

void store_f16(const float* x, std::int64_t n, std::uint16_t* out, std::int64_t step) {
  std::uint16_t halves[width];
  for (std::int64_t i = 0; i < n; i += width) {
    const std::int64_t count = n - i < width ? n - i : width;
    vec::store_f16(halves, count == width ? vec::load(x + i) : load_tail(x + i, count));
    for (std::int64_t k = 0; k < count; ++k) out[(i + k) * step] = halves[k];
  }
}

// --- attention --------------------------------------------------------------------------------------------------

constexpr std::int32_t block_tokens = kv_shape::block_tokens;
constexpr float no_score = -1e30f;  // finite, so that the difference of two of them is 0 and not NaN
static_assert(block_tokens == width);

/// scores[vector] of one block's 16 tokens. Each score is four chains over d = 0, 4, 8 ..., 1, 5, 9 ... and so on,
/// added in order: the processor runs the chains side by side also where there is one vector.
template <int Vectors>
inline void block_scores(const float* queries, std::int64_t dim, const std::uint16_t* k, f32x16 (&scores)[Vectors]) {
  TROUPE_UNROLL for (int v = 0; v < Vectors; ++v) scores[v] = vec::set(0.0f);
  for (std::int64_t phase = 0; phase < 4; ++phase) {
    f32x16 chain[Vectors];
    TROUPE_UNROLL for (int v = 0; v < Vectors; ++v) chain[v] = vec::set(0.0f);
    for (std::int64_t d = phase; d < dim; d += 4) {
      const f32x16 keys = vec::load_f16(k + d * block_tokens);
      TROUPE_UNROLL for (int v = 0; v < Vectors; ++v) chain[v] = vec::fma(keys, vec::set(queries[v * dim + d]), chain[v]);
    }
    TROUPE_UNROLL for (int v = 0; v < Vectors; ++v) scores[v] = vec::add(scores[v], chain[v]);
  }
}

/// o = o * shrink + weights . V, the tokens in order; `seen` tokens of the block exist.
template <int Vectors>
inline void add_values(const attend_args& args, const std::uint16_t* v, std::int32_t seen, const float (&weights)[Vectors][width],
                       const float (&shrink)[Vectors]) {
  const std::int64_t dim = args.head_dim;
  for (std::int64_t d = 0; d < dim; d += width) {
    f32x16 sums[Vectors];
    TROUPE_UNROLL for (int i = 0; i < Vectors; ++i)
      sums[i] = vec::mul(vec::load(args.state + i * (dim + 2) + 2 + d), vec::set(shrink[i]));
    for (std::int32_t t = 0; t < seen; ++t) {
      const f32x16 values = vec::load_f16(v + t * dim + d);
      TROUPE_UNROLL for (int i = 0; i < Vectors; ++i) sums[i] = vec::fma(values, vec::set(weights[i][t]), sums[i]);
    }
    TROUPE_UNROLL for (int i = 0; i < Vectors; ++i) vec::store(args.state + i * (dim + 2) + 2 + d, sums[i]);
  }
}

template <int Vectors>
void attend_vectors(const attend_args& args) {
  const std::int64_t dim = args.head_dim;
  f32x16 totals[Vectors];
  float largest[Vectors];
  TROUPE_UNROLL for (int i = 0; i < Vectors; ++i) {
    totals[i] = vec::set(0.0f);
    largest[i] = no_score;
  }
  for (std::int64_t i = 0; i < Vectors * (dim + 2); ++i) args.state[i] = 0.0f;
  for (std::int32_t block = args.first_block; block < args.last_block; ++block) {
    const std::uint16_t* k = args.arena + args.table[block] * args.block_stride;
    const std::int32_t left = args.tokens - block * block_tokens;
    f32x16 scores[Vectors];
    float weights[Vectors][width];
    float shrink[Vectors];
    block_scores<Vectors>(args.queries, dim, k, scores);
    TROUPE_UNROLL for (int i = 0; i < Vectors; ++i) {
      scores[i] = vec::first_lanes(scores[i], args.positions[i] + 1 - block * block_tokens);
      const float best = vec::max_of(scores[i]);
      const float now = best <= largest[i] ? largest[i] : best;  // a NaN goes through to the output
      const f32x16 p = exponential(vec::sub(scores[i], vec::set(now)));
      shrink[i] = vec::first(exponential(vec::set(largest[i] - now)));
      totals[i] = vec::fma(totals[i], vec::set(shrink[i]), p);
      largest[i] = now;
      vec::store(weights[i], p);
    }
    add_values<Vectors>(args, k + dim * block_tokens, left < block_tokens ? left : block_tokens, weights, shrink);
  }
  TROUPE_UNROLL for (int i = 0; i < Vectors; ++i) {
    args.state[i * (dim + 2)] = largest[i];
    args.state[i * (dim + 2) + 1] = vec::sum(totals[i]);
  }
}

template <int Vectors>
inline void attend_up_to(const attend_args& args) {
  if constexpr (Vectors > 0) {
    if (args.vectors == Vectors) return attend_vectors<Vectors>(args);
    attend_up_to<Vectors - 1>(args);
  }
}

void attend(const attend_args& args) {
  if (args.head_dim % width != 0) return scalar_kernels().attend(args);
  attend_up_to<vec::vectors_at_once>(args);
}

void merge(float* into, const float* from, std::int32_t vectors, std::int32_t head_dim) {
  for (std::int32_t i = 0; i < vectors; ++i, into += head_dim + 2, from += head_dim + 2) {
    const float largest = into[0] > from[0] ? into[0] : from[0];
    const float a = vec::first(exponential(vec::set(into[0] - largest)));
    const float b = vec::first(exponential(vec::set(from[0] - largest)));
    into[0] = largest;
    into[1] = into[1] * a + from[1] * b;
    std::int32_t d = 2;
    for (; d + width <= head_dim + 2; d += width)
      vec::store(into + d, vec::add(vec::mul(vec::load(into + d), vec::set(a)), vec::mul(vec::load(from + d), vec::set(b))));
    for (; d < head_dim + 2; ++d) into[d] = into[d] * a + from[d] * b;
  }
}

constexpr kernel_set vector_set{vec::which, vec::vectors_at_once, quantise, rms_norm, silu_mul,
                                product,    attend,               merge,    store_f16};

}  // namespace
}  // namespace troupe::kernels
