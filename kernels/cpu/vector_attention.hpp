// Attention over paged KV in terms of `vec`. Part of vector_kernels.hpp.
#pragma once

#include "kernels/cpu/vector_rows.hpp"
#include "kernels/lane.hpp"

// clang-format takes the pragma before a loop for a name.
// clang-format off

namespace troupe::kernels {
namespace {

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

}  // namespace
}  // namespace troupe::kernels
