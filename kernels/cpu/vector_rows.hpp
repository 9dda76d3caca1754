// Ops on whole rows in terms of `vec`: norm, activation, exponential. Part of vector_kernels.hpp.
#pragma once

#include "kernels/cpu/kernel_set.hpp"

// clang-format takes the pragma before a loop for a name.
// clang-format off

namespace troupe::kernels {
namespace {

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

}  // namespace
}  // namespace troupe::kernels
