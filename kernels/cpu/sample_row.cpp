// Sampling without sorting the vocabulary. The row is cut into runs; the k-th best run maximum bounds the k-th best
// logit from below, so a small top-k needs the maxima, which the head may have found already, and looks at the few
// logits above the bound only. The rest are questions to row_selection, the same as the device's and with the same
// numbers.
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
constexpr float infinity = std::numeric_limits<float>::infinity(), minus_infinity = -infinity;
using candidate = sample_scratch::candidate;

void penalise(std::span<float> logits, const sampling_row& how) {
  for (const auto& [id, bias] : how.bias) logits[static_cast<std::size_t>(id)] += bias;
  for (const token_count& token : how.seen) {
    float& logit = logits[static_cast<std::size_t>(token.id)];
    logit = logit > 0 ? logit / how.repetition_penalty : logit * how.repetition_penalty;
    if (token.in_output > 0)
      logit -= how.presence_penalty + how.frequency_penalty * static_cast<float>(token.in_output);
  }
}

/// The maxima of the logits as they are now; `known` are those before penalise(), or empty.
void find_maxima(std::span<const float> logits, const sampling_row& how, std::span<const float> known,
                 sample_scratch& s) {
  const std::size_t runs = (logits.size() + run - 1) / run;
  s.run_best.resize(runs);
  const auto search = [&](std::size_t first, std::size_t last) {
    const std::size_t end = std::min(logits.size(), last * run);
    s.kernels->sampling.best_of_runs(logits.data() + first * run, static_cast<std::int64_t>(end - first * run),
                                     sample_run, s.run_best.data() + first);
  };
  if (known.size() != runs || how.bias.size() + how.seen.size() >= runs) return search(0, runs);
  std::copy(known.begin(), known.end(), s.run_best.begin());
  const auto mend = [&](std::int32_t id) {
    search(static_cast<std::size_t>(id) / run, static_cast<std::size_t>(id) / run + 1);
  };
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

bool better(const candidate& a, const candidate& b) noexcept {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

void collect_from(std::span<const float> logits, float bound, sample_scratch& s) {
  s.candidates.clear();
  for (std::size_t r = 0; r < s.run_best.size(); ++r) {
    if (s.run_best[r] < bound) continue;
    const std::size_t end = std::min(logits.size(), (r + 1) * run);
    for (std::size_t i = r * run; i < end; ++i)
      if (logits[i] >= bound && logits[i] > minus_infinity)
        s.candidates.push_back({logits[i], static_cast<std::int32_t>(i)});
  }
}

/// What at least k logits are no less than.
float bound_of(std::size_t k, sample_scratch& s) {
  if (k >= s.run_best.size()) return minus_infinity;
  s.order = s.run_best;
  std::nth_element(s.order.begin(), s.order.begin() + static_cast<std::ptrdiff_t>(k - 1), s.order.end(),
                   std::greater<>());
  return s.order[k - 1];
}

/// The k best logits, best first, in scratch.candidates; fewer where fewer are finite.
void collect_best(std::span<const float> logits, std::size_t k, sample_scratch& s) {
  collect_from(logits, bound_of(k, s), s);
  const std::size_t kept = std::min(k, s.candidates.size());
  std::partial_sort(s.candidates.begin(), s.candidates.begin() + static_cast<std::ptrdiff_t>(kept), s.candidates.end(),
                    better);
  s.candidates.resize(kept);
}

/// Sum of e^((x - best) / temperature), by block in scratch.block_sum.
double exponential_sum(std::span<const float> logits, float best, float per_temperature, sample_scratch& s) {
  s.block_sum.resize((logits.size() + block - 1) / block);
  return s.kernels->sampling.exponential_sums(logits.data(), static_cast<std::int64_t>(logits.size()), best,
                                              per_temperature, s.block_sum.data());
}

/// In [0, 1), 53 bits.
double uniform(const sampling_row& how) noexcept {
  const auto bits = philox(how.seed, how.counter);
  return static_cast<double>((static_cast<std::uint64_t>(bits[0]) << 21) ^ (bits[1] >> 11)) * 0x1p-53;
}

std::int32_t choose_from_row(std::span<const float> logits, float best, float per_temperature, double total, double u,
                             const sample_scratch& s) {
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

/// The row's logits that are no less than `bound`, in scratch.kept, with their ids beside them.
void keep_from(std::span<const float> logits, float bound, sample_scratch& s) {
  const std::size_t room = logits.size() + 16;  // what gather writes past the last one
  if (s.ids.size() < room) s.ids.resize(room);
  std::size_t count = 0;
  for (std::size_t r = 0, end = 0; r < s.run_best.size(); r = end) {  // stretches of runs that matter
    while (r < s.run_best.size() && !(s.run_best[r] >= bound)) ++r;
    end = r;
    while (end < s.run_best.size() && s.run_best[end] >= bound) ++end;
    if (r == end) break;
    const std::size_t first = r * run, size = std::min(logits.size(), end * run) - first;
    const auto found = static_cast<std::size_t>(s.kernels->sampling.gather(
        logits.data() + first, static_cast<std::int64_t>(size), {bound, infinity}, s.ids.data() + count));
    for (std::size_t i = count; i < count + found; ++i) s.ids[i] += static_cast<std::int32_t>(first);
    count += found;
  }
  s.kept.resize(count);
  for (std::size_t i = 0; i < count; ++i) s.kept[i] = logits[static_cast<std::size_t>(s.ids[i])];
}

/// The logits that top_k or min_p may leave, and no others if they are known to be few; else all.
bool narrow(std::span<const float> logits, const sampling_row& how, float best, float per_temperature,
            sample_scratch& s) {
  float bound = minus_infinity;
  const auto k = static_cast<std::size_t>(how.top_k);
  if (how.top_k > 0 && k < logits.size()) {
    s.selection.begin(s.kernels->sampling, logits, best, per_temperature);
    bound =
        k <= s.run_best.size() / 4 ? bound_of(k, s) : s.selection.floor_of(k);  // more maxima than that bound little
  } else if (how.top_k <= 0 && how.top_p >= 1.0f) {
    bound = best + how.temperature * (std::log(how.min_p) - 1e-4f);  // a hair too many; min_p itself decides
    const auto runs = std::count_if(s.run_best.begin(), s.run_best.end(), [bound](float x) { return x >= bound; });
    if (static_cast<std::size_t>(runs) > s.run_best.size() / 4) return false;
  }
  if (!(bound > minus_infinity)) return false;
  keep_from(logits, bound, s);
  return how.top_k <= 0 || s.kept.size() >= k;
}

std::int32_t draw(std::span<const float> logits, const sampling_row& how, float best, sample_scratch& s) {
  const float per_temperature = std::min(1.0f / how.temperature, std::numeric_limits<float>::max());  // times 0 it is 0
  const double u = uniform(how);
  const bool nucleus = how.top_p < 1.0f, floor = how.min_p > 0.0f;
  if (how.top_k <= 0 && !nucleus && !floor)
    return choose_from_row(logits, best, per_temperature, exponential_sum(logits, best, per_temperature, s), u, s);
  const bool narrowed = narrow(logits, how, best, per_temperature, s);
  row_selection& selection = s.selection;
  selection.begin(s.kernels->sampling, narrowed ? s.kept : logits, best, per_temperature);
  selection.weigh();
  std::uint64_t kept = std::numeric_limits<std::uint64_t>::max();
  if (how.top_k > 0) kept = selection.where_count_passes(static_cast<std::uint64_t>(how.top_k) - 1).mass;
  if (nucleus) {  // the first token with which their mass reaches what is wanted
    const auto share = static_cast<double>(how.top_p);
    if (how.top_k <= 0) selection.expect(share, u * share);
    const double wanted = std::ceil(share * static_cast<double>(how.top_k > 0 ? kept : selection.mass()));
    kept = std::min(kept, selection.where_mass_passes(wanted > 0 ? static_cast<std::uint64_t>(wanted) - 1 : 0).mass);
  }
  if (floor) kept = std::min(kept, selection.mass_at_least(how.min_p));
  const passing chosen =
      selection.where_mass_passes(std::min(static_cast<std::uint64_t>(u * static_cast<double>(kept)), kept - 1));
  return narrowed ? s.ids[static_cast<std::size_t>(chosen.at)] : chosen.at;
}

}  // namespace

std::array<std::uint32_t, 4> philox(std::uint64_t key, std::uint64_t counter) noexcept {
  std::array<std::uint32_t, 4> c{static_cast<std::uint32_t>(counter), static_cast<std::uint32_t>(counter >> 32), 0, 0};
  auto k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = 0xD2511F53ull * c[0], b = 0xCD9E8D57ull * c[2];
    c = {static_cast<std::uint32_t>(b >> 32) ^ c[1] ^ k0, static_cast<std::uint32_t>(b),
         static_cast<std::uint32_t>(a >> 32) ^ c[3] ^ k1, static_cast<std::uint32_t>(a)};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}

sampled sample_row(std::span<float> logits, const sampling_row& how, sample_scratch& s,
                   std::span<const float> run_best) {
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
