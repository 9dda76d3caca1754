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

/// exp_of_negative, operation by operation.
inline f32x16 exponential_of_negative(f32x16 x) {
  const f32x16 magic = vec::set(12582912.0f);
  const f32x16 clamped = vec::max(x, vec::set(-87.0f));
  const f32x16 n = vec::sub(vec::add(vec::mul(clamped, vec::set(1.44269504f)), magic), magic);
  const f32x16 r = vec::add(vec::sub(clamped, vec::mul(n, vec::set(0.693359375f))), vec::mul(n, vec::set(2.12194440e-4f)));
  f32x16 p = vec::set(1.9875691500e-4f);
  p = vec::add(vec::mul(p, r), vec::set(1.3981999507e-3f));
  p = vec::add(vec::mul(p, r), vec::set(8.3334519073e-3f));
  p = vec::add(vec::mul(p, r), vec::set(4.1665795894e-2f));
  p = vec::add(vec::mul(p, r), vec::set(1.6666665459e-1f));
  p = vec::add(vec::mul(p, r), vec::set(5.0000001201e-1f));
  p = vec::add(vec::add(vec::mul(vec::mul(p, r), r), r), vec::set(1.0f));
  return vec::zero_where_below(x, -87.0f, vec::mul(p, vec::exp2i(n)));
}

double exponential_sums(const float* x, std::int64_t n, float largest, float factor, float* sums) {
  double total = 0;
  for (std::int64_t first = 0; first < n; first += sample_block) {
    const logit_block block = load_block(x + first, n - first);
    const f32x16 shift = vec::set(largest), scale = vec::set(factor);
    const float sum = vec::sum(vec::add(exponential_of_negative(vec::mul(vec::sub(block.low, shift), scale)),
                                        exponential_of_negative(vec::mul(vec::sub(block.high, shift), scale))));
    sums[first / sample_block] = sum;
    total += static_cast<double>(sum);
  }
  return total;
}

}  // namespace
}  // namespace troupe::kernels
