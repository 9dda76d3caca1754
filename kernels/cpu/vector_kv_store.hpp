// Rope, and K, V and queries as integers with a scale, in terms of `vec`. Part of vector_kernels.hpp.
#pragma once

#include "kernels/cpu/attention_kernels.hpp"
#include "kernels/cpu/kv_scale.hpp"
#include "kernels/cpu/vector_rows.hpp"

// clang-format takes the pragma before a loop for a name.
// clang-format off

namespace troupe::kernels {
namespace {

inline f32x16 load_some(const float* x, std::int64_t n) { return n >= width ? vec::load(x) : load_tail(x, n); }

void rotate(const rotate_args& args) {
  const std::int64_t pairs = args.pairs;
  std::int64_t i = 0;
  if (args.interleaved) {
    for (; i + width <= pairs; i += width) vec::rotate_pairs(args.head + 2 * i, vec::load(args.cosines + i), vec::load(args.sines + i));
  } else {
    for (; i + width <= pairs; i += width) {
      const f32x16 a = vec::load(args.head + i), b = vec::load(args.head + pairs + i);
      const f32x16 c = vec::load(args.cosines + i), s = vec::load(args.sines + i);
      vec::store(args.head + i, vec::sub(vec::mul(a, c), vec::mul(b, s)));
      vec::store(args.head + pairs + i, vec::add(vec::mul(a, s), vec::mul(b, c)));
    }
  }
  const std::int64_t step = args.interleaved ? 2 : 1, far = args.interleaved ? 1 : pairs;
  for (; i < pairs; ++i) {
    float& a = args.head[i * step];
    float& b = args.head[i * step + far];
    const float turned = a * args.cosines[i] - b * args.sines[i];
    b = a * args.sines[i] + b * args.cosines[i];
    a = turned;
  }
}

struct extent {
  float length;   ///< as a vector; not finite where a number is not, or is beyond 1e19
  float largest;  ///< magnitude
};
inline extent extent_of(const float* x, std::int64_t n) {
  f32x16 squares = vec::set(0.0f), most = squares;
  for (std::int64_t i = 0; i < n; i += width) {
    const f32x16 v = load_some(x + i, n - i);
    squares = vec::fma(v, v, squares);
    most = vec::max(most, vec::magnitude(v));
  }
  return {__builtin_sqrtf(vec::sum(squares)), vec::max_of(most)};
}

void quantise_query(const float* x, std::int32_t head_dim, std::int16_t* out, float* scale) {
  const extent size = extent_of(x, head_dim);
  *scale = vector_scale(size.length, size.largest);
  const f32x16 inverse = vec::set(inverse_of(*scale));
  for (std::int64_t d = 0; d < head_dim; d += width) vec::store_int16(out + d, vec::mul(load_some(x + d, head_dim - d), inverse));
}

/// K of one token: the words of its pairs go to the lines of their dimensions.
inline void store_key(const store_args& args, const float* k, std::int64_t token) {
  const extent size = extent_of(k, args.head_dim);
  const stored_scale scale = store_scale(vector_scale(size.length, size.largest));
  __builtin_memcpy(args.unit + kv_unit::k_scales + 2 * token, &scale.bits, 2);
  std::byte* out = args.unit + kv_unit::k + 4 * token;
  for (std::int64_t d = 0; d < args.head_dim; d += width) {
    std::int16_t ints[width];
    vec::store_int16(ints, vec::mul(load_some(k + d, args.head_dim - d), vec::set(scale.inverse)));
    for (std::int64_t i = 0; i < width; i += 2, out += 4 * kv_unit::tokens) __builtin_memcpy(out, ints + i, 4);
  }
}

inline stored_scale store_value_scale(const store_args& args, const float* v, std::int64_t token) {
  const extent size = extent_of(v, args.head_dim);
  const bool finite = size.length <= 3.4028235e38f;
  const stored_scale scale = store_scale(finite ? size.largest / largest_value : size.length);
  __builtin_memcpy(args.unit + kv_unit::v_scales + 2 * token, &scale.bits, 2);
  return scale;
}

/// V of a pair of tokens, of which the call has the even one, the odd one or both. An even one alone clears the odd.
inline void store_values(const store_args& args, const float* even, const float* odd, std::int64_t token) {
  const kv_unit layout(args.head_dim);
  std::byte* out = args.unit + layout.v() + token / 2 * 4 * layout.dim();
  const float by_even = even != nullptr ? store_value_scale(args, even, token).inverse : 0.0f;
  const float by_odd = odd != nullptr ? store_value_scale(args, odd, token + 1).inverse : 0.0f;
  for (std::int64_t d = 0; d < args.head_dim; d += width, out += 64) {
    const std::int64_t n = args.head_dim - d;
    const f32x16 high = odd != nullptr ? vec::mul(load_some(odd + d, n), vec::set(by_odd)) : vec::set(0.0f);
    if (even != nullptr)
      vec::store_pairs(out, vec::mul(load_some(even + d, n), vec::set(by_even)), high);
    else
      vec::store_high(out, high);
  }
}

void store_kv(const store_args& args) {
  if (args.slot == 0) vec::store_pairs(args.unit, vec::set(0.0f), vec::set(0.0f));  // all scales
  for (std::int32_t r = 0; r < args.rows; ++r) store_key(args, args.k + r * args.stride, args.slot + r);
  const float* v = args.v - args.slot * args.stride;  // of the block's first token
  const std::int32_t end = args.slot + args.rows;
  for (std::int32_t t = args.slot / 2 * 2; t < end; t += 2)
    store_values(args, t >= args.slot ? v + t * args.stride : nullptr, t + 1 < end ? v + (t + 1) * args.stride : nullptr, t);
}

}  // namespace
}  // namespace troupe::kernels
