// Attention over paged KV in terms of `vec`: scores, their softmax, and the mix of V. Part of vector_kernels.hpp.
//
// A row of scores becomes weights in place: weight = 2^(score - largest) * scale of V. Where V is integers they are
// too, scaled so that the largest fills 16 bits and their sum keeps the dot product with V in 32. What a vector gets
// depends on its own scores alone; the vectors beside it in a tile only share the loads.
#pragma once

#include "kernels/cpu/attention_kernels.hpp"
#include "kernels/cpu/vector_kv_pages.hpp"
#include "kernels/cpu/vector_kv_store.hpp"
#include "kernels/cpu/vector_rows.hpp"

// clang-format takes the pragma before a loop for a name.
// clang-format off

namespace troupe::kernels {
namespace {

constexpr float no_score = -1e30f;  // finite, so that the difference of two of them is 0 and not NaN
constexpr std::int32_t unit_tokens = kv_unit::tokens;

/// 2^x for x <= 0 and NaN, relative error 4e-6. The polynomial is 1 at 0 and 2 at 1, minimax between.
inline f32x16 power_of_two(f32x16 x) {
  const f32x16 r = vec::fraction(x);
  f32x16 p = vec::set(0.013555747456848621f);
  p = vec::fma(p, r, vec::set(0.05203237012028694f));
  p = vec::fma(p, r, vec::set(0.2413797676563263f));
  p = vec::fma(p, r, vec::set(0.6930321455001831f));
  p = vec::fma(p, r, vec::set(1.0f));
  return vec::times_power(p, x);
}

/// Calls work(number<n>), 1 <= n <= Most.
template <int N>
struct number {
  static constexpr int value = N;
};
template <int Most, class Work>
inline void with_number(std::int32_t n, const Work& work) {
  if constexpr (Most > 1)
    if (n < Most) return with_number<Most - 1>(n, work);
  work(number<Most>{});
}

/// The vectors of a call in groups of nearly equal size, each at most vec::vectors_at_once.
struct vector_group {
  std::int32_t first;
  std::int32_t size;
  std::int32_t units;  ///< that the group's vectors see
  bool fetches() const { return first == 0; }  ///< asks for what comes next, early; the others find it in the cache
};
inline std::int32_t units_seen(std::int32_t tokens) { return (tokens + unit_tokens - 1) / unit_tokens; }
inline std::int32_t group_vectors(const attend_args& args, vector_group (&groups)[attention_kernels::most_vectors]) {
  const std::int32_t count = (args.vectors + vec::vectors_at_once - 1) / vec::vectors_at_once;
  for (std::int32_t g = 0; g < count; ++g) {
    const std::int32_t first = args.vectors * g / count, last = args.vectors * (g + 1) / count;
    groups[g] = {first, last - first, 0};
    for (std::int32_t v = first; v < last; ++v)
      if (units_seen(args.seen[v]) > groups[g].units) groups[g].units = units_seen(args.seen[v]);
  }
  return count;
}

/// What one call works with besides its arguments.
struct piece {
  explicit piece(const attend_args& args) : layout(args.head_dim, args.type) {}
  kv_unit layout;
  float k_scales[piece_tokens];
  float v_scales[piece_tokens];
  float largest[attention_kernels::most_vectors];  ///< of each vector's scores here, and so on
  float total[attention_kernels::most_vectors];
  float sum[attention_kernels::most_vectors];     ///< of weights times the scale of V
  float most[attention_kernels::most_vectors];    ///< the largest of them
  float factor[attention_kernels::most_vectors];  ///< from those to integers
  float step[attention_kernels::most_vectors];  ///< what one of a weight's integer times V's is worth
  float keep[attention_kernels::most_vectors];  ///< factor of what was mixed before
  float join[attention_kernels::most_vectors];  ///< factor of what this piece mixes
};

inline float* scores_of(const attend_args& args, std::int32_t vector) { return args.scores + vector * piece_tokens; }

/// The queries of a group as the page's numbers; `room` holds them where they are converted.
template <class Page>
const typename Page::number* queries_of(const attend_args& args, const vector_group& group, std::int64_t dim, float* room) {
  const std::int16_t* queries = args.queries + group.first * dim;
  if constexpr (Page::floats) {
    for (std::int64_t i = 0; i < group.size * dim; i += width) vec::store(room + i, vec::load_int16(queries + i));
    return room;
  } else {
    return queries;
  }
}

/// scores = (query . K) * scale of K, for `Vectors` x `Units` x 16 tokens.
template <class Page, int Vectors, int Units>
void score_tile(const attend_args& args, const piece& p, const typename Page::number* queries, const vector_group& group,
                std::int32_t first_unit) {
  const std::int64_t dim = p.layout.dim();
  const std::byte* units[Units];
  typename Page::sums sums[Vectors][Units];
  TROUPE_UNROLL for (int u = 0; u < Units; ++u) {
    units[u] = args.units[first_unit + u] + kv_unit::k;
    TROUPE_UNROLL for (int v = 0; v < Vectors; ++v) sums[v][u] = Page::none();
  }
  const std::int64_t to_values = p.layout.v() - kv_unit::k;
  const bool fetch = group.fetches();
  std::int64_t at = 0;
  for (std::int64_t d = 0; d < dim; d += Page::loads * Page::numbers, at += Page::bytes) {
    if (fetch)
      TROUPE_UNROLL for (int u = 0; u < Units; ++u) __builtin_prefetch(units[u] + at + to_values);
    TROUPE_UNROLL for (int step = 0; step < Page::loads; ++step) {
      typename Page::operand keys[Units];
      TROUPE_UNROLL for (int u = 0; u < Units; ++u) keys[u] = Page::load(units[u] + at, step);
      TROUPE_UNROLL for (int v = 0; v < Vectors; ++v) {
        const auto query = Page::same(queries + v * dim + d + step * Page::numbers);
        TROUPE_UNROLL for (int u = 0; u < Units; ++u) Page::dot(sums[v][u], keys[u], query);
      }
    }
  }
  TROUPE_UNROLL for (int v = 0; v < Vectors; ++v)
    TROUPE_UNROLL for (int u = 0; u < Units; ++u) {
      const std::int32_t token = (first_unit + u) * unit_tokens;
      vec::store(scores_of(args, group.first + v) + token, vec::mul(Page::to_floats(sums[v][u]), vec::load(p.k_scales + token)));
    }
}

template <class Page>
void score(const attend_args& args, const piece& p, const vector_group* groups, std::int32_t count) {
  float room[Page::floats ? vec::vectors_at_once * kv_unit::most_dim : 1];
  const std::int32_t all = units_seen(args.seen[args.vectors - 1]);
  for (std::int32_t unit = 0; unit < all; unit += vec::kv_units_at_once)
    for (std::int32_t g = 0; g < count; ++g) {
      const std::int32_t units = groups[g].units - unit;
      if (units <= 0) continue;
      const auto* queries = queries_of<Page>(args, groups[g], p.layout.dim(), room);
      with_number<vec::vectors_at_once>(groups[g].size, [&](auto vectors) {
        with_number<vec::kv_units_at_once>(units, [&](auto at_once) {
          score_tile<Page, decltype(vectors)::value, decltype(at_once)::value>(args, p, queries, groups[g], unit);
        });
      });
    }
}

/// The scores of a vector end within this unit, of which it sees `rest` tokens, 1 to 16.
struct last_unit {
  std::int32_t index;
  std::int32_t rest;
};
inline last_unit last_unit_of(std::int32_t seen) {
  const std::int32_t index = (seen - 1) / unit_tokens;
  return {index, seen - index * unit_tokens};
}

inline float largest_score(const float* row, const last_unit& last) {
  f32x16 best = vec::first_lanes(vec::load(row + last.index * unit_tokens), last.rest);
  for (std::int32_t u = 0; u < last.index; ++u) best = vec::max(vec::load(row + u * unit_tokens), best);
  return vec::max_of(best);
}

/// Scores become weights times the scale of V; their sums go to the piece.
inline void exponentiate(const attend_args& args, piece& p, std::int32_t vector) {
  float* row = scores_of(args, vector);
  const last_unit last = last_unit_of(args.seen[vector]);
  const f32x16 scale = vec::set(args.scales[vector]), offset = vec::set(-p.largest[vector]);
  const auto power_at = [&](std::int32_t token) { return power_of_two(vec::fma(vec::load(row + token), scale, offset)); };
  const std::int32_t end = last.index * unit_tokens;
  f32x16 total = vec::zero_from(power_at(end), last.rest);
  f32x16 sum = vec::zero_from(vec::mul(total, vec::load(p.v_scales + end)), last.rest);
  f32x16 most = sum;
  vec::store(row + end, sum);
  for (std::int32_t token = 0; token < end; token += unit_tokens) {
    const f32x16 power = power_at(token);
    const f32x16 weight = vec::mul(power, vec::load(p.v_scales + token));
    total = vec::add(total, power);
    sum = vec::add(sum, weight);
    most = vec::max(most, weight);
    vec::store(row + token, weight);
  }
  p.total[vector] = vec::sum(total);
  p.sum[vector] = vec::sum(sum);
  p.most[vector] = vec::max_of(most);
}

/// Weights become the page's numbers, zero up to `units`.
template <class Page>
void round_weights(const attend_args& args, const piece& p, std::int32_t vector, std::int32_t units) {
  float* row = scores_of(args, vector);
  const std::int32_t seen = units_seen(args.seen[vector]);
  if constexpr (Page::floats) {
    for (std::int32_t u = seen; u < units; ++u) vec::store(row + u * unit_tokens, vec::set(0.0f));
  } else {
    auto* out = reinterpret_cast<std::int16_t*>(row);  // behind what is still to be read
    const f32x16 factor = vec::set(p.factor[vector]);
    for (std::int32_t u = 0; u < seen; ++u)
      vec::store_int16(out + u * unit_tokens, vec::mul(vec::load(row + u * unit_tokens), factor));
    for (std::int32_t u = seen; u < units; ++u) vec::store_int16(out + u * unit_tokens, vec::set(0.0f));
  }
}

/// Stage by stage for all vectors: what one waits for in a stage, another computes.
template <class Page>
void weigh(const attend_args& args, piece& p, const vector_group* groups, std::int32_t count) {
  for (std::int32_t v = 0; v < args.vectors; ++v) {
    p.largest[v] = largest_score(scores_of(args, v), last_unit_of(args.seen[v]));
    p.largest[v] *= args.scales[v];
  }
  for (std::int32_t v = 0; v < args.vectors; ++v) exponentiate(args, p, v);
  for (std::int32_t v = 0; v < args.vectors; v += width) {
    const f32x16 by_sum = vec::div(vec::set(largest_weight_sum), vec::load(p.sum + v));
    const f32x16 by_most = vec::div(vec::set(largest_int16), vec::load(p.most + v));
    const f32x16 factor = vec::min(vec::min(by_sum, by_most), vec::set(1e30f));  // NaN where the sum is
    vec::store(p.factor + v, factor);
    vec::store(p.step + v, Page::floats ? vec::set(1.0f) : vec::div(vec::set(1.0f), factor));
  }
  for (std::int32_t g = 0; g < count; ++g)
    for (std::int32_t v = 0; v < groups[g].size; ++v) round_weights<Page>(args, p, groups[g].first + v, groups[g].units);
}

/// How this piece joins what came before; both maxima give way to the larger. 2^0 is exactly 1.
inline void joining_factors(const attend_state& into, const float* largest, const float* total, std::int32_t first,
                            std::int32_t count, float* keep, float* join) {
  float old[width] = {}, old_total[width] = {}, now[width] = {}, now_total[width] = {};
  for (std::int32_t i = 0; i < count; ++i) {
    old[i] = into.largest[first + i];
    old_total[i] = into.total[first + i];
    now[i] = largest[first + i];
    now_total[i] = total[first + i];
  }
  const f32x16 most = vec::max(vec::load(old), vec::load(now));
  const f32x16 a = power_of_two(vec::sub(vec::load(old), most)), b = power_of_two(vec::sub(vec::load(now), most));
  vec::store(old, most);
  vec::store(old_total, vec::fma(vec::load(now_total), b, vec::mul(vec::load(old_total), a)));
  vec::store(now, a);
  vec::store(now_total, b);
  for (std::int32_t i = 0; i < count; ++i) {
    into.largest[first + i] = old[i];
    into.total[first + i] = old_total[i];
    keep[first + i] = now[i];
    join[first + i] = now_total[i];
  }
}

inline f32x16 joined(f32x16 old, float keep, f32x16 now, float join) {
  return vec::fma(now, vec::set(join), vec::mul(old, vec::set(keep)));
}

/// mixed (joins) weights . V, for `Vectors` x `Parts` x 16 dimensions.
template <class Page, int Vectors, int Parts>
void mix_tile(const attend_args& args, const piece& p, const vector_group& group, std::int32_t first_dim) {
  using number = typename Page::number;
  constexpr std::int64_t row = piece_tokens * static_cast<std::int64_t>(sizeof(float) / sizeof(number));
  const std::int64_t dim = p.layout.dim();
  const std::int64_t line = dim / width * Page::bytes, offset = first_dim / width * Page::bytes;
  const auto* weights = reinterpret_cast<const number*>(scores_of(args, group.first));
  typename Page::sums sums[Vectors][Parts];
  TROUPE_UNROLL for (int v = 0; v < Vectors; ++v)
    TROUPE_UNROLL for (int i = 0; i < Parts; ++i) sums[v][i] = Page::none();
  const bool fetch = group.fetches() && args.next != nullptr;
  for (std::int32_t u = 0; u < group.units; ++u) {
    const std::byte* values = args.units[u] + p.layout.v() + offset;
    const std::byte* next = fetch ? args.next[u] + kv_unit::k + offset : nullptr;
    for (std::int64_t t = 0; t < unit_tokens; t += Page::loads * Page::numbers, values += line) {
      if (fetch) {
        TROUPE_UNROLL for (int i = 0; i < Parts; ++i) __builtin_prefetch(next + i * Page::bytes);
        next += line;
      }
      TROUPE_UNROLL for (int step = 0; step < Page::loads; ++step) {
        typename Page::operand operands[Parts];
        TROUPE_UNROLL for (int i = 0; i < Parts; ++i) operands[i] = Page::load(values + i * Page::bytes, step);
        TROUPE_UNROLL for (int v = 0; v < Vectors; ++v) {
          const auto weight = Page::same(weights + v * row + u * unit_tokens + t + step * Page::numbers);
          TROUPE_UNROLL for (int i = 0; i < Parts; ++i) Page::dot(sums[v][i], operands[i], weight);
        }
      }
    }
  }
  TROUPE_UNROLL for (int v = 0; v < Vectors; ++v) {
    const std::int32_t vector = group.first + v;
    float* mixed = args.state.mixed + vector * dim + first_dim;
    TROUPE_UNROLL for (int i = 0; i < Parts; ++i) {
      const f32x16 now = vec::mul(Page::to_floats(sums[v][i]), vec::set(p.step[vector]));
      vec::store(mixed + i * width, args.first ? now : joined(vec::load(mixed + i * width), p.keep[vector], now, p.join[vector]));
    }
  }
}

template <class Page>
void mix(const attend_args& args, const piece& p, const vector_group& group) {
  const std::int32_t parts = p.layout.dim() / static_cast<std::int32_t>(width);
  const std::int32_t tiles = (parts + vec::kv_units_at_once - 1) / vec::kv_units_at_once;
  for (std::int32_t i = 0; i < tiles; ++i) {
    const std::int32_t first = parts * i / tiles, last = parts * (i + 1) / tiles;
    with_number<vec::vectors_at_once>(group.size, [&](auto vectors) {
      with_number<vec::kv_units_at_once>(last - first, [&](auto at_once) {
        mix_tile<Page, decltype(vectors)::value, decltype(at_once)::value>(args, p, group, first * static_cast<std::int32_t>(width));
      });
    });
  }
}

template <class Page>
void attend_to(const attend_args& args) {
  piece p(args);
  vector_group groups[attention_kernels::most_vectors];
  const std::int32_t count = group_vectors(args, groups);
  for (std::int32_t u = 0; u < units_seen(args.seen[args.vectors - 1]); ++u) {
    vec::store(p.k_scales + u * unit_tokens, vec::load_bf16(args.units[u] + kv_unit::k_scales));
    vec::store(p.v_scales + u * unit_tokens, vec::load_bf16(args.units[u] + kv_unit::v_scales));
    if (args.next != nullptr) __builtin_prefetch(args.next[u]);
  }
  score<Page>(args, p, groups, count);
  weigh<Page>(args, p, groups, count);
  for (std::int32_t v = 0; v < args.vectors; v += width) {
    const std::int32_t some = args.vectors - v < width ? args.vectors - v : static_cast<std::int32_t>(width);
    if (args.first)
      for (std::int32_t i = v; i < v + some; ++i) {
        args.state.largest[i] = p.largest[i];
        args.state.total[i] = p.total[i];
      }
    else
      joining_factors(args.state, p.largest, p.total, v, some, p.keep, p.join);
  }
  for (std::int32_t g = 0; g < count; ++g) mix<Page>(args, p, groups[g]);
}

void attend(const attend_args& args) {
  with_type(args.type, [&]<kv_type Type> { attend_to<page<Type>>(args); });
}

void merge(const attend_state& into, const attend_state& from, std::int32_t vectors, std::int32_t head_dim) {
  const std::int64_t dim = kv_unit::padded(head_dim);
  float keep[attention_kernels::most_vectors], join[attention_kernels::most_vectors];
  for (std::int32_t v = 0; v < vectors; v += width)
    joining_factors(into, from.largest, from.total, v, vectors - v < width ? vectors - v : static_cast<std::int32_t>(width), keep, join);
  for (std::int32_t v = 0; v < vectors; ++v)
    for (std::int64_t d = v * dim; d < (v + 1) * dim; d += width)
      vec::store(into.mixed + d, joined(vec::load(into.mixed + d), keep[v], vec::load(from.mixed + d), join[v]));
}

void divide(const float* mixed, float total, std::int32_t head_dim, kv_type type, float* out) {
  float room[kv_unit::most_dim];
  if (is_turned(type)) mixed = turned(mixed, kv_unit::padded(head_dim), room);
  const f32x16 inverse = vec::set(1.0f / total);
  std::int32_t i = 0;
  for (; i + width <= head_dim; i += width) vec::store(out + i, vec::mul(vec::load(mixed + i), inverse));
  if (i < head_dim) store_tail(out + i, vec::mul(vec::load(mixed + i), inverse), head_dim - i);
}

}  // namespace
}  // namespace troupe::kernels
