// Rope, KV and attention in plain loops: what runs on a machine without vector paths, and the oracle of their tests.
// Knows no instruction set.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cpu/half.hpp"
#include "kernels/cpu/kernel_set.hpp"
#include "kernels/cpu/kv_numbers.hpp"
#include "kernels/cpu/kv_scale.hpp"

namespace troupe::kernels {
namespace {

void rotate(const rotate_args& args) {
  const std::int32_t far = args.interleaved ? 1 : args.pairs;
  const std::int32_t step = args.interleaved ? 2 : 1;
  for (std::int32_t i = 0; i < args.pairs; ++i) {
    float& a = args.head[i * step];
    float& b = args.head[i * step + far];
    const float turned = a * args.cosines[i] - b * args.sines[i];
    b = a * args.sines[i] + b * args.cosines[i];
    a = turned;
  }
}

struct extent {
  float length;
  float largest;
};
extent extent_of(const float* x, std::int32_t n) {
  float squares = 0.0f, largest = 0.0f;
  for (std::int32_t i = 0; i < n; ++i) {
    squares += x[i] * x[i];
    largest = std::max(largest, std::fabs(x[i]));
  }
  return {std::sqrt(squares), largest};
}

std::int16_t to_int16(float scaled) {
  return std::isfinite(scaled) ? static_cast<std::int16_t>(std::nearbyint(scaled)) : std::int16_t{0};
}

/// By a Hadamard matrix, its own inverse, in place.
void turn(float* x, std::int32_t dim) {
  const std::int32_t together = turned_together(dim);
  const float factor = 1.0f / std::sqrt(static_cast<float>(together));
  for (std::int32_t first = 0; first < dim; first += together)
    for (std::int32_t far = 1; far < together; far *= 2)
      for (std::int32_t i = first; i < first + together; ++i) {
        if ((i & far) != 0) continue;
        const float a = x[i], b = x[i + far];
        x[i] = a + b;
        x[i + far] = a - b;
      }
  for (std::int32_t i = 0; i < dim; ++i) x[i] *= factor;
}

/// x as attention of that type sees it; `room` holds it where that is not x itself.
const float* seen_as(kv_type type, const float* x, std::int32_t head_dim, float* room) {
  if (!is_turned(type)) return x;
  std::fill(std::copy_n(x, head_dim, room), room + kv_unit::padded(head_dim), 0.0f);
  turn(room, kv_unit::padded(head_dim));
  return room;
}
std::int32_t numbers_of(kv_type type, std::int32_t head_dim) {
  return is_turned(type) ? kv_unit::padded(head_dim) : head_dim;
}

void quantise_query(const float* x, std::int32_t head_dim, kv_type type, std::int16_t* out, float* scale) {
  float room[kv_unit::most_dim];
  const std::int32_t n = numbers_of(type, head_dim);
  x = seen_as(type, x, head_dim, room);
  const extent size = extent_of(x, n);
  *scale = vector_scale(size.length, size.largest);
  const float inverse = inverse_of(*scale);
  for (std::int32_t d = 0; d < kv_unit::padded(head_dim); ++d)
    out[d] = d < n ? to_int16(x[d] * inverse) : std::int16_t{0};
}

template <kv_type Type>
std::int16_t bits_of(float scaled) {
  if constexpr (Type == kv_type::f16)
    return static_cast<std::int16_t>(f32_to_f16(std::isfinite(scaled) ? scaled : 0.0f));
  if constexpr (Type == kv_type::bf16) return bf16_of(std::isfinite(scaled) ? scaled : 0.0f);
  return to_int16(scaled);
}

template <kv_type Type>
stored_scale key_scale(const extent& size) {
  if constexpr (Type == kv_type::i16) return store_scale(vector_scale(size.length, size.largest));
  return narrow_scale(Type, size.length, size.largest);
}
template <kv_type Type>
stored_scale value_scale(const extent& size) {
  if constexpr (Type == kv_type::i16)
    return store_scale(std::isfinite(size.length) ? size.largest / largest_value : size.length);
  return narrow_scale(Type, size.length, size.largest);
}

template <kv_type Type>
void store_token(const store_args& args, const float* k, const float* v, std::int32_t token) {
  const kv_unit layout(args.head_dim, Type);
  const std::int32_t n = numbers_of(Type, args.head_dim);
  float rooms[2][kv_unit::most_dim];
  k = seen_as(Type, k, args.head_dim, rooms[0]);
  v = seen_as(Type, v, args.head_dim, rooms[1]);
  const stored_scale of_keys = key_scale<Type>(extent_of(k, n)), of_values = value_scale<Type>(extent_of(v, n));
  std::memcpy(args.unit + kv_unit::k_scales + 2 * token, &of_keys.bits, 2);
  std::memcpy(args.unit + kv_unit::v_scales + 2 * token, &of_values.bits, 2);
  constexpr std::int64_t together = kv_unit::cell_numbers(Type);
  for (std::int32_t d = 0; d < n; ++d) {
    put<Type>(args.unit + kv_unit::k + layout.k_cell(token, d), d % together, bits_of<Type>(k[d] * of_keys.inverse));
    put<Type>(args.unit + layout.v() + layout.v_cell(token, d), token % together,
              bits_of<Type>(v[d] * of_values.inverse));
  }
}

void store_kv(const store_args& args) {
  if (args.slot == 0) std::memset(args.unit, 0, kv_unit::k);
  with_type(args.type, [&]<kv_type Type> {
    for (std::int32_t r = 0; r < args.rows; ++r)
      store_token<Type>(args, args.k + r * args.stride, args.v + r * args.stride, args.slot + r);
  });
}

/// Number n of a cell.
template <kv_type Type>
float get(const std::byte* cell, std::int64_t n) {
  if constexpr (Type == kv_type::q8_0) return static_cast<float>(static_cast<std::int8_t>(cell[n]));
  std::uint16_t word;
  std::memcpy(&word, cell + n % 2 * 2, 2);
  if constexpr (Type == kv_type::q4_0) return static_cast<float>(narrow_numbers[word >> n / 2 * 4 & 0xf]);
  if constexpr (Type == kv_type::f16) return f16_to_f32(word);
  if constexpr (Type == kv_type::bf16) return bf16_to_f32(word);
  return static_cast<float>(static_cast<std::int16_t>(word));
}

float scale_at(const std::byte* unit, std::int64_t scales, std::int32_t token) {
  std::uint16_t bits;
  std::memcpy(&bits, unit + scales + 2 * token, 2);
  return bf16_to_f32(bits);
}

/// The state of one vector over one piece.
struct piece_state {
  float largest = -1e30f;
  float total = 0.0f;
  float step = 0.0f;
};

/// Sums are of doubles, which hold those of integers exactly.
template <kv_type Type>
piece_state weigh(const attend_args& args, std::int32_t vector, double* weights) {
  constexpr std::int64_t together = kv_unit::cell_numbers(Type);
  const kv_unit layout(args.head_dim, Type);
  const std::int32_t dim = layout.dim(), seen = args.seen[vector];
  const std::int16_t* query = args.queries + std::int64_t{vector} * dim;
  float scores[piece_tokens], scaled[piece_tokens];
  piece_state state;
  for (std::int32_t t = 0; t < seen; ++t) {
    const std::byte* unit = args.units[t / kv_unit::tokens];
    const std::int32_t token = t % kv_unit::tokens;
    double dot = 0;
    for (std::int32_t d = 0; d < dim; ++d)
      dot += query[d] * static_cast<double>(get<Type>(unit + kv_unit::k + layout.k_cell(token, d), d % together));
    scores[t] = static_cast<float>(dot) * scale_at(unit, kv_unit::k_scales, token) * args.scales[vector];
    state.largest = scores[t] > state.largest || std::isnan(scores[t]) ? scores[t] : state.largest;
  }
  float most = 0.0f, sum = 0.0f;
  for (std::int32_t t = 0; t < seen; ++t) {
    const float power = std::exp2(scores[t] - state.largest);
    state.total += power;
    scaled[t] = power * scale_at(args.units[t / kv_unit::tokens], kv_unit::v_scales, t % kv_unit::tokens);
    most = std::max(most, scaled[t]);
    sum += scaled[t];
  }
  if constexpr (together == 1) {  // floats
    state.step = 1.0f;
    std::copy_n(scaled, seen, weights);
    return state;
  }
  const float factor = std::min({largest_weight_sum / sum, largest_int16 / most, 1e30f});
  state.step = sum > 0.0f ? 1.0f / factor : sum;
  for (std::int32_t t = 0; t < seen; ++t) weights[t] = sum > 0.0f ? to_int16(scaled[t] * factor) : 0;
  return state;
}

float joined(float old, float keep, float now, float join) { return std::fma(now, join, old * keep); }

template <kv_type Type>
void attend_vector(const attend_args& args, std::int32_t vector) {
  constexpr std::int64_t together = kv_unit::cell_numbers(Type);
  const kv_unit layout(args.head_dim, Type);
  double weights[piece_tokens];
  const piece_state now = weigh<Type>(args, vector, weights);
  const attend_state& state = args.state;
  const float old = args.first ? now.largest : state.largest[vector];
  const float largest = std::max(old, now.largest);
  const float keep = std::exp2(old - largest), join = std::exp2(now.largest - largest);
  state.total[vector] = args.first ? now.total : joined(state.total[vector], keep, now.total, join);
  state.largest[vector] = largest;
  float* mixed = state.mixed + std::int64_t{vector} * layout.dim();
  for (std::int32_t d = 0; d < layout.dim(); ++d) {
    double sum = 0;
    for (std::int32_t t = 0; t < args.seen[vector]; ++t) {
      const std::int32_t token = t % kv_unit::tokens;
      const std::byte* values = args.units[t / kv_unit::tokens] + layout.v();
      sum += weights[t] * static_cast<double>(get<Type>(values + layout.v_cell(token, d), token % together));
    }
    const float value = static_cast<float>(sum) * now.step;
    mixed[d] = args.first ? value : joined(mixed[d], keep, value, join);
  }
}

void attend(const attend_args& args) {
  with_type(args.type, [&]<kv_type Type> {
    for (std::int32_t vector = 0; vector < args.vectors; ++vector) attend_vector<Type>(args, vector);
  });
}

void merge(const attend_state& into, const attend_state& from, std::int32_t vectors, std::int32_t head_dim) {
  const std::int64_t dim = kv_unit::padded(head_dim);
  for (std::int64_t v = 0; v < vectors; ++v) {
    const float largest = std::max(into.largest[v], from.largest[v]);
    const float keep = std::exp2(into.largest[v] - largest), join = std::exp2(from.largest[v] - largest);
    into.largest[v] = largest;
    into.total[v] = joined(into.total[v], keep, from.total[v], join);
    for (std::int64_t d = v * dim; d < (v + 1) * dim; ++d)
      into.mixed[d] = joined(into.mixed[d], keep, from.mixed[d], join);
  }
}

void divide(const float* mixed, float total, std::int32_t head_dim, kv_type type, float* out) {
  float room[kv_unit::most_dim];
  if (is_turned(type)) mixed = seen_as(type, mixed, kv_unit::padded(head_dim), room);
  for (std::int32_t i = 0; i < head_dim; ++i) out[i] = mixed[i] / total;
}

}  // namespace

const attention_kernels& scalar_attention() noexcept {
  static constexpr attention_kernels set{rotate, store_kv, quantise_query, attend, merge, divide};
  return set;
}

}  // namespace troupe::kernels
