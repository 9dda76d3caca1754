// Rope, and K, V and queries as integers with a scale, in terms of `vec`. Part of vector_kernels.hpp.
#pragma once

#include "kernels/cpu/attention_kernels.hpp"
#include "kernels/cpu/kv_numbers.hpp"
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

/// x[head_dim] by a Hadamard matrix, its own inverse, in room[dim].
const float* turned(const float* x, std::int32_t head_dim, float* room) {
  const std::int64_t dim = kv_unit::padded(head_dim), together = turned_together(kv_unit::padded(head_dim));
  const f32x16 factor = vec::set(1.0f / __builtin_sqrtf(static_cast<float>(together)));
  for (std::int64_t d = 0; d < dim; d += width) vec::store(room + d, vec::mul(vec::butterflies(load_some(x + d, head_dim - d)), factor));
  for (std::int64_t first = 0; first < dim; first += together)
    for (std::int64_t far = width; far < together; far *= 2)
      for (std::int64_t i = 0; i < together; i += width) {
        if ((i & far) != 0) continue;
        float* at = room + first + i;
        const f32x16 a = vec::load(at), b = vec::load(at + far);
        vec::store(at, vec::add(a, b));
        vec::store(at + far, vec::sub(a, b));
      }
  return room;
}

void quantise_query(const float* x, std::int32_t head_dim, kv_type type, std::int16_t* out, float* scale) {
  float room[kv_unit::most_dim];
  if (is_turned(type)) {
    x = turned(x, head_dim, room);
    head_dim = kv_unit::padded(head_dim);
  }
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
  const kv_unit layout(args.head_dim, kv_type::i16);
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

void store_integers(const store_args& args) {
  for (std::int32_t r = 0; r < args.rows; ++r) store_key(args, args.k + r * args.stride, args.slot + r);
  const float* v = args.v - args.slot * args.stride;  // of the block's first token
  const std::int32_t end = args.slot + args.rows;
  for (std::int32_t t = args.slot / 2 * 2; t < end; t += 2)
    store_values(args, t >= args.slot ? v + t * args.stride : nullptr, t + 1 < end ? v + (t + 1) * args.stride : nullptr, t);
}

/// A head in a type other than i16: its scale to `scale`, its numbers to put_bits(d, bits).
template <kv_type Type, class Put>
inline void store_head(const float* x, std::int32_t head_dim, std::byte* scale, const Put& put_bits) {
  float room[kv_unit::most_dim];
  if (is_turned(Type)) {
    x = turned(x, head_dim, room);
    head_dim = kv_unit::padded(head_dim);
  }
  const extent size = extent_of(x, head_dim);
  const stored_scale by = narrow_scale(Type, size.length, size.largest);
  __builtin_memcpy(scale, &by.bits, 2);
  const bool finite = by.inverse != 0.0f;  // what is not leaves zeros: a page may be read with a weight of zero
  for (std::int64_t d = 0; d < head_dim; d += width) {
    const f32x16 scaled = finite ? vec::mul(load_some(x + d, head_dim - d), vec::set(by.inverse)) : vec::set(0.0f);
    std::int16_t bits[width];
    if constexpr (Type == kv_type::f16) {
      vec::store_f16(reinterpret_cast<std::uint16_t*>(bits), scaled);
    } else if constexpr (Type == kv_type::bf16) {
      float floats[width];
      vec::store(floats, scaled);
      for (std::int64_t i = 0; i < width; ++i) bits[i] = bf16_of(floats[i]);
    } else {
      vec::store_int16(bits, scaled);
    }
    for (std::int64_t i = 0; i < width; ++i) put_bits(d + i, bits[i]);
  }
}

template <kv_type Type>
void store_narrow(const store_args& args) {
  constexpr std::int64_t together = kv_unit::cell_numbers(Type);
  const kv_unit layout(args.head_dim, Type);
  for (std::int32_t r = 0; r < args.rows; ++r) {
    const std::int64_t token = args.slot + r;
    store_head<Type>(args.k + r * args.stride, args.head_dim, args.unit + kv_unit::k_scales + 2 * token,
                     [&](std::int64_t d, std::int16_t bits) {
                       put<Type>(args.unit + kv_unit::k + layout.k_cell(token, d), d % together, bits);
                     });
    store_head<Type>(args.v + r * args.stride, args.head_dim, args.unit + kv_unit::v_scales + 2 * token,
                     [&](std::int64_t d, std::int16_t bits) {
                       put<Type>(args.unit + layout.v() + layout.v_cell(token, d), token % together, bits);
                     });
  }
}

void store_kv(const store_args& args) {
  if (args.slot == 0) vec::store_pairs(args.unit, vec::set(0.0f), vec::set(0.0f));  // all scales
  with_type(args.type, [&]<kv_type Type> {
    if constexpr (Type == kv_type::i16)
      store_integers(args);
    else
      store_narrow<Type>(args);
  });
}

}  // namespace
}  // namespace troupe::kernels
