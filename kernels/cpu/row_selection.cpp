// A sample's histogram guesses where the answer lies; tallies narrow that down until few tokens are left to be sorted.
#include "kernels/cpu/row_selection.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/cpu/sample_passes.hpp"

namespace troupe::kernels {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float massless_depth = 29.5f;  // e^-29.1 = 2^-42
constexpr std::size_t most_sampled = 1024;
constexpr std::size_t together = 8;          // of a sample, so that it touches fewer lines of memory
constexpr std::size_t most_surveyed = 4096;  // of fewer tokens tallies cost less than a survey
constexpr std::uint64_t few = 24;            // are sorted
constexpr double usual_deviations =
    1.7;  // one guess in ten fails, and the others gather half as much as those that never do

/// |a - b| is more than so many deviations.
bool differ(double a, double b, double deviations, double variance) noexcept {
  return (a - b) * (a - b) > deviations * deviations * variance;
}

}  // namespace

void row_selection::begin(const sampling_kernels& kernels, std::span<const float> logits, float best,
                          float per_temperature) noexcept {
  kernels_ = &kernels;
  logits_ = logits;
  best_ = best;
  per_temperature_ = per_temperature;
  floor_ = std::max(best - massless_depth / per_temperature, std::numeric_limits<float>::lowest());
  stride_ = 0.0;
  gathered_count_ = 0;
}

void row_selection::weigh() {
  const std::size_t room = logits_.size() + 16;  // what kernels write past the last one
  if (weights_.size() < room) weights_.resize(room);
  const double sum = kernels_->weigh(logits_.data(), static_cast<std::int64_t>(logits_.size()), best_, per_temperature_,
                                     weights_.data());
  about_mass_ = sum * static_cast<double>(mass_unit);
  mass_ = 0;
  stride_ = 0.0;
}

std::uint64_t row_selection::mass() {
  if (mass_ == 0) mass_ = mass_at_least(0.0f);
  return mass_;
}

std::uint64_t row_selection::mass_at_least(float weight) const {
  return kernels_->tally(weights_.data(), weights_.data(), static_cast<std::int64_t>(logits_.size()), weight).mass;
}

void row_selection::sample(bool weighed) {
  const std::size_t stride = (logits_.size() + most_sampled - 1) / most_sampled;
  stride_ = static_cast<double>(stride);
  sampled_places_.resize(most_sampled + together);
  float low[4] = {infinity, infinity, infinity, infinity}, high[4] = {-infinity, -infinity, -infinity, -infinity};
  std::size_t count = 0;
  for (std::size_t i = 0; i < logits_.size();
       i += i % together == together - 1 ? together * stride - together + 1 : 1) {
    const float x = logits_[i];
    sampled_places_[count] = static_cast<std::int32_t>(i);
    if (!(x >= floor_)) continue;
    low[count % 4] = std::min(low[count % 4], x);
    high[count % 4] = std::max(high[count % 4], x);
    ++count;
  }
  sampled_ = {*std::min_element(low, low + 4), *std::max_element(high, high + 4)};
  step_ = (sampled_.high - sampled_.low) / static_cast<float>(bins);
  const float per_step = 1.0f / step_;
  sampled_bins_.fill({});
  if (!(per_step < infinity)) step_ = 0.0f;  // none, or all equal: says nothing
  for (std::size_t i = 0; i < count && step_ > 0; ++i) {
    const auto at = static_cast<std::size_t>(sampled_places_[i]);
    const auto steps = static_cast<std::int32_t>((sampled_.high - logits_[at]) * per_step);
    sampled_bin& bin = sampled_bins_[static_cast<std::size_t>(std::min(steps, std::int32_t{bins - 1}))];
    const float weight = weighed ? weights_[at] : 0.0f;
    bin.count += 1.0f;
    bin.mass += weight;
    bin.squares += weight * weight;
  }
}

float row_selection::floor_of(std::size_t k) {
  sample(false);
  double sampled = 0;
  for (std::size_t b = 0; b < bins && step_ > 0; ++b) {
    sampled += static_cast<double>(sampled_bins_[b].count);
    const double found = stride_ * sampled, wanted = static_cast<double>(k);
    if (found > wanted && differ(found, wanted, 4.0, stride_ * stride_ * (sampled + 1)))
      return std::max(floor_, edge(b + 1));
  }
  return floor_;
}

/// From the least token on: what a sample misses are a few heavy ones, which are the best, and the whole mass is known.
logit_range row_selection::guess_by_mass(double target, double deviations) const noexcept {
  logit_range found{floor_, infinity};
  if (!(step_ > 0)) return found;
  const double unit = stride_ * static_cast<double>(mass_unit), whole = about_mass_, wanted = whole - target;
  double sampled = 0, squares = 0, one = 0;
  for (std::size_t b = bins; one == 0 && b-- > 0;)
    if (sampled_bins_[b].count > 0) one = static_cast<double>(sampled_bins_[b].squares / sampled_bins_[b].count);
  for (std::size_t b = bins;; --b) {
    const double below_edge = unit * sampled,
                 variance = unit * unit * (squares + one) * std::max(0.1, 1.1 - below_edge / whole);
    if (differ(below_edge, wanted, deviations, variance)) {
      if (below_edge > wanted) {
        found.high = edge(b);
        break;
      }
      found.low = edge(b);
    }
    if (b == 0) break;
    const sampled_bin& bin = sampled_bins_[b - 1];
    sampled += static_cast<double>(bin.mass);
    squares += static_cast<double>(bin.squares);
    if (bin.count > 0) one = static_cast<double>(bin.squares / bin.count);
  }
  return found.low < found.high ? found : logit_range{floor_, infinity};
}

void row_selection::token_list::make_room(std::size_t count) {
  if (places.size() < count + 16) places.resize(count + 16);  // what kernels write past the last one
}

/// Logits, weights and places in the row of those whose places in `from` are here.
void row_selection::token_list::copy(const tokens& from, std::int64_t count) {
  if (logits.size() < static_cast<std::size_t>(count)) {
    logits.resize(static_cast<std::size_t>(count));
    weights.resize(static_cast<std::size_t>(count));
  }
  for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
    const std::int32_t at = places[i];
    logits[i] = from.logits[at];
    weights[i] = from.weights[at];
    if (from.places != nullptr) places[i] = from.places[at];
  }
}

void row_selection::survey(logit_range one, logit_range other) {
  surveyed_[0] = one;
  surveyed_[1] = other;
  gathered_.make_room(logits_.size());
  const std::int64_t count =
      kernels_->survey(logits_.data(), weights_.data(), static_cast<std::int64_t>(logits_.size()), surveyed_, masses_,
                       gathered_.places.data());
  gathered_.copy(all(), count);
  gathered_count_ = count;
  mass_ = masses_[2];
}

void row_selection::expect(double share, double other) {
  if (logits_.size() <= most_surveyed) return;
  sample(true);
  survey(guess_by_mass(share * about_mass_, usual_deviations), guess_by_mass(other * about_mass_, usual_deviations));
}

/// Those of `some` that are within, as a list of their own.
row_selection::tokens row_selection::gather(const tokens& some, logit_range within) {
  turn_ ^= 1;  // they may be in the other one
  token_list& to = near_[turn_];
  to.make_room(static_cast<std::size_t>(some.count));
  const std::int64_t count = kernels_->gather(some.logits, some.count, within, to.places.data());
  to.copy(some, count);
  return to.all(count);
}

/// Among those of some tokens that are `within`; above that is so much. Nothing: it does not pass there.
template <bool ByCount>
std::optional<passing> row_selection::pass_among(tokens some, logit_range within, token_tally above,
                                                 std::uint64_t target) {
  constexpr auto amount = [](const token_tally& tally) { return ByCount ? tally.count : tally.mass; };
  if (target < amount(above)) return {};
  // Tallies of these tokens from here on; those from `low` on pass, those from `high` on do not.
  const auto tally = [&](float limit) { return kernels_->tally(some.logits, some.weights, some.count, limit); };
  token_tally from_high = within.high < infinity ? tally(within.high) : token_tally{}, from_low = tally(within.low);
  if (target - amount(above) >= amount(from_low) - amount(from_high)) return {};
  token_tally outside{above.count - from_high.count, above.mass - from_high.mass};  // may wrap around
  float low = within.low, high = within.high;
  for (int step = 0; from_low.count - from_high.count > few; ++step) {
    if ((from_low.count - from_high.count) * 8 <
        static_cast<std::uint64_t>(some.count)) {  // the others need not be read again
      some = gather(some, {low, high});
      outside = {outside.count + from_high.count, outside.mass + from_high.mass};
      from_low = {from_low.count - from_high.count, from_low.mass - from_high.mass};
      from_high = {};
    }
    const double count = static_cast<double>(from_low.count - from_high.count),
                 inside = static_cast<double>(amount(from_low) - amount(from_high));
    const double share = (static_cast<double>(target - amount(outside) - amount(from_high)) + 0.5) / inside,
                 aside = 0.75 / std::sqrt(count);
    const double at = step % 3 == 0   ? share + aside
                      : step % 3 == 1 ? share - aside
                                      : 0.5;  // from both sides; and halves, to be sure
    const float top = std::min(high, best_);
    float limit = top - static_cast<float>(std::clamp(at, 0.01, 0.99)) * (top - low);
    if (!(limit > low)) limit = std::nextafter(low, infinity);
    if (!(limit < high)) limit = std::nextafter(high, low);
    if (!(limit > low)) break;  // all are equal
    const token_tally from_limit = tally(limit);
    const bool passes = target - amount(outside) < amount(from_limit);
    (passes ? low : high) = limit;
    (passes ? from_low : from_high) = from_limit;
  }
  some = gather(some, {low, high});
  order_.resize(static_cast<std::size_t>(some.count));
  std::iota(order_.begin(), order_.end(), 0);
  if (some.count <= static_cast<std::int64_t>(few))
    std::sort(order_.begin(), order_.end(), [&](std::int32_t a, std::int32_t b) {
      return some.logits[a] != some.logits[b] ? some.logits[a] > some.logits[b] : a < b;
    });
  token_tally up_to{outside.count + from_high.count, outside.mass + from_high.mass};
  for (const std::int32_t i : order_) {
    ++up_to.count;
    up_to.mass += mass_of(some.weights[i]);
    if (target < amount(up_to)) return passing{some.places[i], up_to.mass};
  }
  return {};
}

passing row_selection::where_count_passes(std::uint64_t target) {
  return pass_among<true>(all(), {floor_, infinity}, {}, target).value_or(passing{-1, mass()});
}

passing row_selection::where_mass_passes(std::uint64_t target) {
  for (const double deviations : {usual_deviations, 6.0, 0.0}) {
    for (int i = 0; i < 2 && gathered_count_ > 0; ++i)
      if (const auto found = pass_among<false>(gathered_.all(gathered_count_), surveyed_[i], {0, masses_[i]}, target))
        return *found;
    if (deviations == 0.0 || logits_.size() <= most_surveyed) break;
    if (stride_ == 0.0) sample(true);
    if (!(step_ > 0)) break;
    survey(guess_by_mass(static_cast<double>(target), deviations), {infinity, infinity});
  }
  return pass_among<false>(all(), {floor_, infinity}, {}, target).value_or(passing{-1, mass()});
}

}  // namespace troupe::kernels
