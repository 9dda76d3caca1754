// Sampling without sorting the vocabulary. The row is cut into runs; the k-th best run maximum bounds the k-th best logit
// from below, so a top-k needs the maxima, which the head may have found already, and a sort of the few logits above the bound.
#include "kernels/cpu/sample_row.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "kernels/cpu/sample_passes.hpp"

namespace troupe::kernels {
namespace {

constexpr auto block = static_cast<std::size_t>(sample_block);
constexpr auto run = static_cast<std::size_t>(sample_run);
constexpr float minus_infinity = -std::numeric_limits<float>::infinity();
using candidate = sample_scratch::candidate;

void penalise(std::span<float> logits, const sampling_row& how) {
  for (const auto& [id, bias] : how.bias) logits[static_cast<std::size_t>(id)] += bias;
  for (const token_count& token : how.seen) {
    float& logit = logits[static_cast<std::size_t>(token.id)];
    logit = logit > 0 ? logit / how.repetition_penalty : logit * how.repetition_penalty;
    if (token.in_output > 0) logit -= how.presence_penalty + how.frequency_penalty * static_cast<float>(token.in_output);
  }
}

/// The maxima of the logits as they are now; `known` are those before penalise(), or empty.
void find_maxima(std::span<const float> logits, const sampling_row& how, std::span<const float> known, sample_scratch& s) {
  const std::size_t runs = (logits.size() + run - 1) / run;
  s.run_best.resize(runs);
  const auto search = [&](std::size_t first, std::size_t last) {
    const std::size_t end = std::min(logits.size(), last * run);
    s.kernels->best_of_runs(logits.data() + first * run, static_cast<std::int64_t>(end - first * run), sample_run, s.run_best.data() + first);
  };
  if (known.size() != runs || how.bias.size() + how.seen.size() >= runs) return search(0, runs);
  std::copy(known.begin(), known.end(), s.run_best.begin());
  const auto mend = [&](std::int32_t id) { search(static_cast<std::size_t>(id) / run, static_cast<std::size_t>(id) / run + 1); };
  for (const auto& [id, bias] : how.bias) mend(id);
  for (const token_count& token : how.seen) mend(token.id);
}

/// The row's largest logit; nothing where it holds a NaN, +inf, or nothing but -inf.
std::optional<float> largest(const std::vector<float>& best) {
  float top = minus_infinity, poison = 0.0f;
  for (const float x : best) {
    top = std::max(top, x);
    poison += x == minus_infinity ? 0.0f : x - x;
  }
  if (poison != 0.0f || top == minus_infinity) return {};
  return top;
}

std::int32_t argmax(std::span<const float> logits, float best, const std::vector<float>& run_best) {
  std::size_t at = static_cast<std::size_t>(std::find(run_best.begin(), run_best.end(), best) - run_best.begin()) * run;
  while (logits[at] != best) ++at;
  return static_cast<std::int32_t>(at);
}

bool better(const candidate& a, const candidate& b) noexcept { return a.logit != b.logit ? a.logit > b.logit : a.id < b.id; }

void collect_from(std::span<const float> logits, float bound, sample_scratch& s) {
  s.candidates.clear();
  for (std::size_t r = 0; r < s.run_best.size(); ++r) {
    if (s.run_best[r] < bound) continue;
    const std::size_t end = std::min(logits.size(), (r + 1) * run);
    for (std::size_t i = r * run; i < end; ++i)
      if (logits[i] >= bound && logits[i] > minus_infinity) s.candidates.push_back({logits[i], static_cast<std::int32_t>(i)});
  }
}

/// What at least k logits are no less than.
float bound_of(std::span<const float> logits, std::size_t k, sample_scratch& s) {
  const std::vector<float>* best = &s.run_best;
  if (k > s.run_best.size() / 4) {  // close to the number of runs their maxima bound little
    s.block_best.resize((logits.size() + block - 1) / block);
    s.kernels->best_of_runs(logits.data(), static_cast<std::int64_t>(logits.size()), sample_block, s.block_best.data());
    best = &s.block_best;
  }
  if (k >= best->size()) return minus_infinity;
  s.order = *best;
  std::nth_element(s.order.begin(), s.order.begin() + static_cast<std::ptrdiff_t>(k - 1), s.order.end(), std::greater<>());
  return s.order[k - 1];
}

/// The k best logits, best first, in scratch.candidates; fewer where fewer are finite.
void collect_best(std::span<const float> logits, std::size_t k, sample_scratch& s) {
  collect_from(logits, bound_of(logits, k, s), s);
  const std::size_t kept = std::min(k, s.candidates.size());
  std::partial_sort(s.candidates.begin(), s.candidates.begin() + static_cast<std::ptrdiff_t>(kept), s.candidates.end(), better);
  s.candidates.resize(kept);
}

/// Sum of e^((x - best) / temperature), by block in scratch.block_sum.
double exponential_sum(std::span<const float> logits, float best, float per_temperature, sample_scratch& s) {
  s.block_sum.resize((logits.size() + block - 1) / block);
  return s.kernels->exponential_sums(logits.data(), static_cast<std::int64_t>(logits.size()), best, per_temperature,
                                     s.block_sum.data());
}

/// In [0, 1), 53 bits.
double uniform(const sampling_row& how) noexcept {
  const auto bits = philox(how.seed, how.counter);
  return static_cast<double>((static_cast<std::uint64_t>(bits[0]) << 21) ^ (bits[1] >> 11)) * 0x1p-53;
}

std::int32_t choose_from_row(std::span<const float> logits, float best, float per_temperature, double total, double u, const sample_scratch& s) {
  double left = u * total;
  std::size_t b = 0, last = 0;
  for (; b < s.block_sum.size(); ++b) {
    if (s.block_sum[b] > 0) last = b;
    if (left < static_cast<double>(s.block_sum[b])) break;
    left -= static_cast<double>(s.block_sum[b]);
  }
  if (b == s.block_sum.size()) b = last;  // rounding carried the draw past the end
  const std::size_t end = std::min(logits.size(), (b + 1) * block);
  std::size_t chosen = b * block;
  for (std::size_t i = b * block; i < end; ++i) {
    const float weight = exp_of_negative((logits[i] - best) * per_temperature);
    if (weight > 0) chosen = i;
    if (left < static_cast<double>(weight)) break;
    left -= static_cast<double>(weight);
  }
  return static_cast<std::int32_t>(chosen);
}

/// Applies top_p and min_p to candidates (best first, `total` the mass of the distribution they are cut from) and draws.
std::int32_t choose_from_candidates(const sampling_row& how, float best, float per_temperature, double total, double u, const sample_scratch& s) {
  const double wanted = static_cast<double>(how.top_p) * total;
  double mass = 0;
  std::size_t kept = 0;
  const auto weight = [&](std::size_t i) { return exp_of_negative((s.candidates[i].logit - best) * per_temperature); };
  while (kept < s.candidates.size()) {
    const float w = weight(kept);
    if (kept > 0 && (w < how.min_p || (how.top_p < 1.0f && mass >= wanted))) break;
    mass += static_cast<double>(w);
    ++kept;
  }
  double left = u * mass;
  for (std::size_t i = 0; i + 1 < kept; ++i) {
    left -= static_cast<double>(weight(i));
    if (left < 0) return s.candidates[i].id;
  }
  return s.candidates[kept - 1].id;
}

std::int32_t draw(std::span<const float> logits, const sampling_row& how, float best, sample_scratch& s) {
  const float per_temperature = 1.0f / how.temperature;
  const double u = uniform(how);
  if (how.top_k > 0) {
    collect_best(logits, static_cast<std::size_t>(how.top_k), s);
    double total = 0;
    for (const candidate& c : s.candidates) total += static_cast<double>(exp_of_negative((c.logit - best) * per_temperature));
    return choose_from_candidates(how, best, per_temperature, total, u, s);
  }
  const double total = how.top_p < 1.0f || how.min_p <= 0.0f ? exponential_sum(logits, best, per_temperature, s) : 0.0;
  if (how.top_p >= 1.0f && how.min_p <= 0.0f) return choose_from_row(logits, best, per_temperature, total, u, s);
  if (how.top_p >= 1.0f) {
    collect_from(logits, best + how.temperature * (std::log(how.min_p) - 1e-4f), s);  // a hair too many; min_p itself decides
    std::sort(s.candidates.begin(), s.candidates.end(), better);
    return choose_from_candidates(how, best, per_temperature, total, u, s);
  }
  // Nucleus: how many tokens it takes is not known ahead; most often few.
  for (std::size_t k = 64;; k *= 8) {
    collect_best(logits, k, s);
    double mass = 0;
    for (const candidate& c : s.candidates) mass += static_cast<double>(exp_of_negative((c.logit - best) * per_temperature));
    if (k >= logits.size() || mass >= static_cast<double>(how.top_p) * total) break;
  }
  return choose_from_candidates(how, best, per_temperature, total, u, s);
}

}  // namespace

std::array<std::uint32_t, 4> philox(std::uint64_t key, std::uint64_t counter) noexcept {
  std::array<std::uint32_t, 4> c{static_cast<std::uint32_t>(counter), static_cast<std::uint32_t>(counter >> 32), 0, 0};
  auto k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = 0xD2511F53ull * c[0], b = 0xCD9E8D57ull * c[2];
    c = {static_cast<std::uint32_t>(b >> 32) ^ c[1] ^ k0, static_cast<std::uint32_t>(b), static_cast<std::uint32_t>(a >> 32) ^ c[3] ^ k1,
         static_cast<std::uint32_t>(a)};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}

sampled sample_row(std::span<float> logits, const sampling_row& how, sample_scratch& s, std::span<const float> run_best) {
  sampled pick;
  penalise(logits, how);
  find_maxima(logits, how, run_best, s);
  const auto found = largest(s.run_best);
  if (!found) return pick;
  const float best = *found;
  pick.id = how.temperature > 0 ? draw(logits, how, best, s) : argmax(logits, best, s.run_best);
  if (how.top_logprobs >= 0) {
    const float norm = best + static_cast<float>(std::log(exponential_sum(logits, best, 1.0f, s)));
    pick.logprob = logits[static_cast<std::size_t>(pick.id)] - norm;
    if (how.top_logprobs > 0) {
      collect_best(logits, static_cast<std::size_t>(how.top_logprobs), s);
      for (const candidate& c : s.candidates) pick.top.emplace_back(c.id, c.logit - norm);
    }
  }
  return pick;
}

}  // namespace troupe::kernels
