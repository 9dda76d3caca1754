// Sampling's passes over a row of logits in terms of `vec`. Part of vector_kernels.hpp.
#pragma once

#include "kernels/cpu/kernel_set.hpp"
#include "kernels/cpu/sample_passes.hpp"

// clang-format takes the pragma before a loop for a name.
// clang-format off

namespace troupe::kernels {
namespace {

/// Two registers hold a block; what the last one lacks is -inf, which is never best and whose exponential is 0.
struct logit_block {
  f32x16 low, high;
};
inline logit_block load_block(const float* x, std::int64_t n) {
  static_assert(sample_block == 2 * width);
  if (n >= sample_block) return {vec::load(x), vec::load(x + width)};
  float all[sample_block];
  for (std::int64_t i = 0; i < sample_block; ++i) all[i] = i < n ? x[i] : -__builtin_inff();
  return {vec::load(all), vec::load(all + width)};
}

/// 0 for a finite number and for -inf, else NaN.
inline f32x16 poison_of(f32x16 x) {
  const f32x16 bounded = vec::max(x, vec::set(-3.4028235e38f));  // a NaN comes through
  return vec::sub(bounded, bounded);
}

void best_of_runs(const float* x, std::int64_t n, std::int64_t run, float* best) {
  for (std::int64_t first = 0; first < n; first += run) {
    const std::int64_t last = first + run < n ? first + run : n;
    f32x16 top = vec::set(-__builtin_inff()), poison = vec::set(0.0f);
    for (std::int64_t i = first; i < last; i += sample_block) {
      const logit_block block = load_block(x + i, last - i);
      poison = vec::add(poison, vec::add(poison_of(block.low), poison_of(block.high)));
      top = vec::max(top, vec::max(block.low, block.high));
    }
    best[first / run] = vec::max_of(top) + vec::sum(poison);
  }
}

inline f32x16 load_sixteen(const float* x, std::int64_t n, float beyond) {
  if (n >= width) [[likely]] return vec::load(x);
  float all[width];
  for (std::int64_t i = 0; i < width; ++i) all[i] = i < n ? x[i] : beyond;
  return vec::load(all);
}

/// Chains of exponentials side by side: a processor sees too few operations ahead to find the next chain itself.
constexpr int chains = vec::rows == 16 ? 4 : 2;

/// exp_of_negative, operation by operation.
inline void exponentials_of_negative(f32x16 (&x)[chains]) {
  const auto each = [](f32x16 (&to)[chains], auto&& operation) {
    TROUPE_UNROLL for (int c = 0; c < chains; ++c) to[c] = operation(c);
  };
  const f32x16 magic = vec::set(12582912.0f);
  f32x16 n[chains], r[chains], p[chains];
  each(r, [&](int c) { return vec::max(x[c], vec::set(-87.0f)); });
  each(n, [&](int c) { return vec::mul(r[c], vec::set(1.44269504f)); });
  each(n, [&](int c) { return vec::add(n[c], magic); });
  each(n, [&](int c) { return vec::sub(n[c], magic); });
  each(p, [&](int c) { return vec::mul(n[c], vec::set(0.693359375f)); });
  each(r, [&](int c) { return vec::sub(r[c], p[c]); });
  each(p, [&](int c) { return vec::mul(n[c], vec::set(2.12194440e-4f)); });
  each(r, [&](int c) { return vec::add(r[c], p[c]); });
  each(n, [&](int c) { return vec::exp2i(n[c]); });
  each(p, [&](int c) { return vec::mul(vec::set(1.9875691500e-4f), r[c]); });
  for (const float term : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f}) {
    each(p, [&](int c) { return vec::add(p[c], vec::set(term)); });
    each(p, [&](int c) { return vec::mul(p[c], r[c]); });
  }
  each(p, [&](int c) { return vec::add(p[c], vec::set(5.0000001201e-1f)); });
  each(p, [&](int c) { return vec::mul(p[c], r[c]); });
  each(p, [&](int c) { return vec::mul(p[c], r[c]); });
  each(p, [&](int c) { return vec::add(p[c], r[c]); });
  each(p, [&](int c) { return vec::add(p[c], vec::set(1.0f)); });
  each(x, [&](int c) { return vec::zero_where_below(x[c], -87.0f, vec::mul(p[c], n[c])); });
}

/// Of `chains` times 16 logits from x on, of which there are n; -inf beyond.
inline void weigh_some(const float* x, std::int64_t n, f32x16 largest, f32x16 factor, f32x16 (&weights)[chains]) {
  TROUPE_UNROLL for (int c = 0; c < chains; ++c)
    weights[c] = vec::mul(vec::sub(load_sixteen(x + c * width, n - c * width, -__builtin_inff()), largest), factor);
  exponentials_of_negative(weights);
}

double exponential_sums(const float* x, std::int64_t n, float largest, float factor, float* sums) {
  const f32x16 shift = vec::set(largest), scale = vec::set(factor);
  double total = 0;
  for (std::int64_t first = 0; first < n; first += chains * width) {
    f32x16 weights[chains];
    weigh_some(x + first, n - first, shift, scale, weights);
    for (int c = 0; c < chains && first + c * width < n; c += 2) {
      const float sum = vec::sum(vec::add(weights[c], weights[c + 1]));
      *sums++ = sum;
      total += static_cast<double>(sum);
    }
  }
  return total;
}

constexpr std::int64_t fetched_ahead = 2048;  // logits: a row that others have written comes from far away

double weigh(const float* x, std::int64_t n, float largest, float factor, float* weights) {
  const f32x16 shift = vec::set(largest), scale = vec::set(factor);
  f32x16 sum = vec::set(0.0f);
  for (std::int64_t first = 0; first < n; first += chains * width) {
    for (int c = 0; c < chains; ++c) __builtin_prefetch(x + first + fetched_ahead + c * width);
    f32x16 some[chains];
    weigh_some(x + first, n - first, shift, scale, some);
    for (int c = 0; c < chains && first + c * width < n; ++c) vec::store(weights + first + c * width, some[c]);
    for (int c = 0; c < chains; c += 2) sum = vec::add(sum, vec::add(some[c], some[c + 1]));
  }
  return static_cast<double>(vec::sum(sum));
}

/// As whole numbers of 64 bits.
inline std::uint64_t total(const vec::mass_parts& sums) {
  std::uint32_t high[width], low[width];
  vec::store(high, low, sums);
  std::uint64_t all = 0;
  for (int i = 0; i < width; ++i) all += (std::uint64_t{high[i]} << 21) + low[i];
  return all;
}
constexpr std::int64_t summed_at_once = 1024 * width;  // by mass_parts

/// Stands where a row has no logit: -inf would be within ranges that begin there.
constexpr float no_logit = __builtin_nanf("");

token_tally tally(const float* x, const float* weights, std::int64_t n, float limit) {
  token_tally all;
  for (std::int64_t first = 0; first < n; first += summed_at_once) {
    vec::mass_parts sums = vec::no_mass();
    for (std::int64_t i = first; i < n && i < first + summed_at_once; i += width) {
      const f32x16 logits = load_sixteen(x + i, n - i, no_logit);
      vec::add_at_least(sums, logits, limit, vec::masses_of(load_sixteen(weights + i, n - i, 0.0f)));
      all.count += static_cast<std::uint64_t>(__builtin_popcount(vec::at_least(logits, limit)));
    }
    all.mass += total(sums);
  }
  return all;
}

std::int64_t gather(const float* x, std::int64_t n, logit_range within, std::int32_t* places) {
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < n; i += width) {
    const std::uint32_t kept = vec::lanes_within(load_sixteen(x + i, n - i, no_logit), within);
    if (vec::stores_all_places || kept != 0) count += vec::store_places(places + count, static_cast<std::int32_t>(i), kept);
  }
  return count;
}

std::int64_t survey(const float* x, const float* weights, std::int64_t n, const logit_range (&within)[2], std::uint64_t (&masses)[3],
                    std::int32_t* places) {
  const logit_range one = within[0], other = within[1];  // no store can change these
  std::int64_t count = 0;
  for (std::uint64_t& mass : masses) mass = 0;
  for (std::int64_t first = 0; first < n; first += summed_at_once) {
    vec::mass_parts above_one = vec::no_mass(), above_other = vec::no_mass(), all = vec::no_mass();
    for (std::int64_t i = first; i < n && i < first + summed_at_once; i += width) {
      const f32x16 logits = load_sixteen(x + i, n - i, no_logit);
      const vec::mass_parts some = vec::masses_of(load_sixteen(weights + i, n - i, 0.0f));
      vec::add_at_least(above_one, logits, one.high, some);
      vec::add_at_least(above_other, logits, other.high, some);
      vec::add(all, some);
      const std::uint32_t kept = vec::lanes_within(logits, one) | vec::lanes_within(logits, other);
      if (vec::stores_all_places || kept != 0) count += vec::store_places(places + count, static_cast<std::int32_t>(i), kept);
    }
    masses[0] += total(above_one);
    masses[1] += total(above_other);
    masses[2] += total(all);
  }
  return count;
}

}  // namespace
}  // namespace troupe::kernels
