// Rope, KV and attention in plain loops: what runs on a machine without vector paths, and the oracle of their tests.
// Knows no instruction set.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cpu/half.hpp"
#include "kernels/cpu/kernel_set.hpp"
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

void quantise_query(const float* x, std::int32_t head_dim, std::int16_t* out, float* scale) {
  const extent size = extent_of(x, head_dim);
  *scale = vector_scale(size.length, size.largest);
  const float inverse = inverse_of(*scale);
  for (std::int32_t d = 0; d < kv_unit(head_dim).dim(); ++d) out[d] = d < head_dim ? to_int16(x[d] * inverse) : std::int16_t{0};
}

std::int64_t k_at(std::int64_t token, std::int64_t d) { return kv_unit::k + (d / 2 * kv_unit::tokens + token) * 4 + d % 2 * 2; }
std::int64_t v_at(const kv_unit& layout, std::int64_t token, std::int64_t d) {
  return layout.v() + (token / 2 * layout.dim() + d) * 4 + token % 2 * 2;
}

void store_token(const store_args& args, const float* k, const float* v, std::int32_t token) {
  const kv_unit layout(args.head_dim);
  const extent of_k = extent_of(k, args.head_dim), of_v = extent_of(v, args.head_dim);
  const stored_scale k_scale = store_scale(vector_scale(of_k.length, of_k.largest));
  const stored_scale v_scale = store_scale(std::isfinite(of_v.length) ? of_v.largest / largest_value : of_v.length);
  std::memcpy(args.unit + kv_unit::k_scales + 2 * token, &k_scale.bits, 2);
  std::memcpy(args.unit + kv_unit::v_scales + 2 * token, &v_scale.bits, 2);
  for (std::int32_t d = 0; d < args.head_dim; ++d) {
    const std::int16_t of_key = to_int16(k[d] * k_scale.inverse), of_value = to_int16(v[d] * v_scale.inverse);
    std::memcpy(args.unit + k_at(token, d), &of_key, 2);
    std::memcpy(args.unit + v_at(layout, token, d), &of_value, 2);
  }
}

void store_kv(const store_args& args) {
  if (args.slot == 0) std::memset(args.unit, 0, kv_unit::k);
  for (std::int32_t r = 0; r < args.rows; ++r)
    store_token(args, args.k + r * args.stride, args.v + r * args.stride, args.slot + r);
}

template <class Number>
Number number_at(const std::byte* from) {
  Number value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

/// The state of one vector over one piece.
struct piece_state {
  float largest = -1e30f;
  float total = 0.0f;
  float step = 0.0f;
};

piece_state weigh(const attend_args& args, std::int32_t vector, std::int32_t* weights) {
  const std::int32_t dim = kv_unit(args.head_dim).dim(), seen = args.seen[vector];
  const std::int16_t* query = args.queries + std::int64_t{vector} * dim;
  float scores[piece_tokens], scaled[piece_tokens];
  piece_state state;
  for (std::int32_t t = 0; t < seen; ++t) {
    const std::byte* unit = args.units[t / kv_unit::tokens];
    const std::int32_t token = t % kv_unit::tokens;
    std::int32_t dot = 0;
    for (std::int32_t d = 0; d < dim; ++d) dot += query[d] * number_at<std::int16_t>(unit + k_at(token, d));
    const float scale = bf16_to_f32(number_at<std::uint16_t>(unit + kv_unit::k_scales + 2 * token));
    scores[t] = static_cast<float>(dot) * scale * args.scales[vector];
    state.largest = scores[t] > state.largest || std::isnan(scores[t]) ? scores[t] : state.largest;
  }
  float most = 0.0f, sum = 0.0f;
  for (std::int32_t t = 0; t < seen; ++t) {
    const float power = std::exp2(scores[t] - state.largest);
    state.total += power;
    const std::byte* unit = args.units[t / kv_unit::tokens];
    scaled[t] = power * bf16_to_f32(number_at<std::uint16_t>(unit + kv_unit::v_scales + 2 * (t % kv_unit::tokens)));
    most = std::max(most, scaled[t]);
    sum += scaled[t];
  }
  const float factor = std::min({largest_weight_sum / sum, largest_int16 / most, 1e30f});
  state.step = sum > 0.0f ? 1.0f / factor : sum;
  for (std::int32_t t = 0; t < seen; ++t) weights[t] = sum > 0.0f ? to_int16(scaled[t] * factor) : 0;
  return state;
}

float joined(float old, float keep, float now, float join) { return std::fma(now, join, old * keep); }

void attend_vector(const attend_args& args, std::int32_t vector) {
  const kv_unit layout(args.head_dim);
  std::int32_t weights[piece_tokens];
  const piece_state now = weigh(args, vector, weights);
  const attend_state& state = args.state;
  const float old = args.first ? now.largest : state.largest[vector];
  const float largest = std::max(old, now.largest);
  const float keep = std::exp2(old - largest), join = std::exp2(now.largest - largest);
  state.total[vector] = args.first ? now.total : joined(state.total[vector], keep, now.total, join);
  state.largest[vector] = largest;
  float* mixed = state.mixed + std::int64_t{vector} * layout.dim();
  for (std::int32_t d = 0; d < layout.dim(); ++d) {
    std::int32_t sum = 0;
    for (std::int32_t t = 0; t < args.seen[vector]; ++t)
      sum += weights[t] * number_at<std::int16_t>(args.units[t / kv_unit::tokens] + v_at(layout, t % kv_unit::tokens, d));
    const float value = static_cast<float>(sum) * now.step;
    mixed[d] = args.first ? value : joined(mixed[d], keep, value, join);
  }
}

void attend(const attend_args& args) {
  for (std::int32_t vector = 0; vector < args.vectors; ++vector) attend_vector(args, vector);
}

void merge(const attend_state& into, const attend_state& from, std::int32_t vectors, std::int32_t head_dim) {
  const std::int64_t dim = kv_unit(head_dim).dim();
  for (std::int64_t v = 0; v < vectors; ++v) {
    const float largest = std::max(into.largest[v], from.largest[v]);
    const float keep = std::exp2(into.largest[v] - largest), join = std::exp2(from.largest[v] - largest);
    into.largest[v] = largest;
    into.total[v] = joined(into.total[v], keep, from.total[v], join);
    for (std::int64_t d = v * dim; d < (v + 1) * dim; ++d) into.mixed[d] = joined(into.mixed[d], keep, from.mixed[d], join);
  }
}

void divide(const float* mixed, float total, std::int32_t n, float* out) {
  for (std::int32_t i = 0; i < n; ++i) out[i] = mixed[i] / total;
}

}  // namespace

const attention_kernels& scalar_attention() noexcept {
  static constexpr attention_kernels set{rotate, store_kv, quantise_query, attend, merge, divide};
  return set;
}

}  // namespace troupe::kernels
