// Truncated sampling against a sort of the whole row: the same token, bit for bit, whatever the row and the instruction
// set.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/row_selection.hpp"
#include "kernels/cpu/sample_passes.hpp"
#include "kernels/cpu/sample_row.hpp"
#include "support/catch.hpp"
#include "support/random_seed.hpp"

using namespace troupe::kernels;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

/// What sampling is defined to do with a row that is not penalised.
class sorted_row {
public:
  sorted_row(const std::vector<float>& logits, float temperature) {
    std::vector<int> order(logits.size());
    std::iota(order.begin(), order.end(), 0);
    std::erase_if(order, [&](int id) { return logits[id] == -infinity; });
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return logits[a] > logits[b]; });
    std::uint64_t sum = 0;
    for (const int id : order) {
      const float weight = exp_of_negative((logits[id] - logits[order.front()]) * (1.0f / temperature));
      tokens_.push_back({id, weight, sum += mass_of(weight)});
    }
  }
  struct token {
    int id;
    float weight;
    std::uint64_t up_to;  ///< mass of all to here
  };
  std::uint64_t mass() const { return tokens_.back().up_to; }
  const std::vector<token>& tokens() const { return tokens_; }

  const token* where_mass_passes(std::uint64_t target) const {
    const auto at = std::find_if(tokens_.begin(), tokens_.end(), [&](const token& one) { return target < one.up_to; });
    return at == tokens_.end() ? nullptr : &*at;
  }
  int choice(const sampling_row& how) const {
    const auto bits = philox(how.seed, how.counter);
    const double u = static_cast<double>((static_cast<std::uint64_t>(bits[0]) << 21) ^ (bits[1] >> 11)) * 0x1p-53;
    std::uint64_t all = mass(), of_floor = 0;
    if (how.top_k > 0 && static_cast<std::size_t>(how.top_k) < tokens_.size())
      all = tokens_[static_cast<std::size_t>(how.top_k) - 1].up_to;
    std::uint64_t kept = all;
    const auto wanted =
        static_cast<std::uint64_t>(std::ceil(static_cast<double>(how.top_p) * static_cast<double>(all)));
    if (how.top_p < 1.0f)
      kept = std::find_if(tokens_.begin(), tokens_.end(), [&](const token& one) { return one.up_to >= wanted; })->up_to;
    for (const token& one : tokens_)
      if (one.weight >= how.min_p) of_floor += mass_of(one.weight);
    if (how.min_p > 0.0f) kept = std::min(kept, of_floor);
    return where_mass_passes(std::min(static_cast<std::uint64_t>(u * static_cast<double>(kept)), kept - 1))->id;
  }

private:
  std::vector<token> tokens_;
};

const char* const shapes[] = {
    "as a model's",  "flat",      "nearly flat", "steep",     "one peak",        "some peaks on flat ground",
    "whole numbers", "all equal", "rising",      "two heaps", "half of it -inf", "nearly all -inf",
    "huge"};

std::vector<float> row_of(std::size_t n, std::size_t shape, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<float> logits(n);
  for (std::size_t i = 0; i < n; ++i) {
    const float x = normal(random);
    const float by_shape[] = {3 * x,
                              0.1f * x,
                              1e-6f * x,
                              12 * x,
                              x,
                              0.01f * x,
                              std::round(x),
                              1.5f,
                              1e-3f * static_cast<float>(i),
                              x + (random() % 2 == 0 ? 9.0f : 0.0f),
                              random() % 2 == 0 ? x : -infinity,
                              random() % 500 == 0 ? x : -infinity,
                              1e36f * x};
    logits[i] = by_shape[shape];
  }
  if (shape == 4) logits[random() % n] = 30.0f;
  if (shape == 5)
    for (int i = 0; i < 5; ++i) logits[random() % n] = 8.0f;
  if (shape == 11) logits[random() % n] = 0.25f;
  return logits;
}

}  // namespace

TEST_CASE("passes over a row's weights give the same numbers on every instruction set") {
  const unsigned seed = troupe::test::random_seed();
  std::mt19937 random(seed);
  for (int round = 0; round < 12; ++round) {
    const std::size_t n = std::array{1u, 15u, 16u, 17u, 100u, 40001u}[static_cast<std::size_t>(round / 2)];
    const bool from_all = round % 2 == 1;
    std::vector<float> logits = row_of(n, n % 2 == 0 ? 0 : 1, random);
    if (n > 2) logits[n / 2] = -infinity;
    const auto size = static_cast<std::int64_t>(n);
    const float best = *std::max_element(logits.begin(), logits.end()),
                limit = from_all ? -infinity : logits[random() % n], high = best - 1.0f;
    std::vector<float> weights(n + 16);
    const sampling_kernels& plain = scalar_kernels().sampling;
    const double sum = plain.weigh(logits.data(), size, best, 0.7f, weights.data());
    const token_tally tally = plain.tally(logits.data(), weights.data(), size, limit);
    std::vector<std::int32_t> places(n + 16);
    places.resize(static_cast<std::size_t>(plain.gather(logits.data(), size, {limit, high}, places.data())));
    const logit_range ranges[2] = {{high, infinity}, {limit - 0.5f, limit}};
    std::uint64_t masses[3];
    std::vector<std::int32_t> surveyed(n + 16);
    surveyed.resize(
        static_cast<std::size_t>(plain.survey(logits.data(), weights.data(), size, ranges, masses, surveyed.data())));
    CHECK(masses[0] == plain.tally(logits.data(), weights.data(), size, infinity).mass);
    CHECK(masses[1] == tally.mass);
    CHECK(masses[2] == plain.tally(logits.data(), weights.data(), size, -infinity).mass);
    for (const isa which : available_isas()) {
      INFO(to_string(which) << " " << n << " logits, limit " << limit << ", seed " << seed);
      const sampling_kernels& set = kernels_for(which).sampling;
      std::vector<float> found_weights(n + 16);
      std::vector<std::int32_t> found(n + 16);
      CHECK(set.weigh(logits.data(), size, best, 0.7f, found_weights.data()) == Approx(sum).epsilon(1e-4));
      CHECK(std::equal(weights.begin(), weights.begin() + static_cast<std::ptrdiff_t>(n), found_weights.begin()));
      const token_tally found_tally = set.tally(logits.data(), weights.data(), size, limit);
      CHECK(found_tally.count == tally.count);
      CHECK(found_tally.mass == tally.mass);
      found.resize(static_cast<std::size_t>(set.gather(logits.data(), size, {limit, high}, found.data())));
      CHECK(found == places);
      std::uint64_t found_masses[3];
      found.assign(n + 16, 0);
      found.resize(static_cast<std::size_t>(
          set.survey(logits.data(), weights.data(), size, ranges, found_masses, found.data())));
      CHECK(found == surveyed);
      CHECK(std::equal(masses, masses + 3, found_masses));
    }
  }
}

TEST_CASE("a running count or mass passes its target where it does in the sorted row") {
  const unsigned seed = troupe::test::random_seed();
  std::mt19937 random(seed);
  row_selection selection;
  for (std::size_t shape = 0; shape < std::size(shapes); ++shape)
    for (const std::size_t n :
         {std::size_t{1}, std::size_t{23}, std::size_t{1000}, std::size_t{5000}, std::size_t{49152}}) {
      const std::vector<float> logits = row_of(n, shape, random);
      const float best = *std::max_element(logits.begin(), logits.end());
      if (best == -infinity) continue;
      const sorted_row sorted(logits, 0.8f);
      selection.begin(kernels_for(best_isa()).sampling, logits, best, 1.0f / 0.8f);
      selection.weigh();
      INFO(shapes[shape] << ", " << n << " logits, seed " << seed);
      REQUIRE(selection.mass() == sorted.mass());
      for (int i = 0; i < 12; ++i) {
        const std::uint64_t target =
            i == 0   ? 0
            : i == 1 ? sorted.mass() - 1
                     : static_cast<std::uint64_t>(random() * 0x1p-32 * static_cast<double>(sorted.mass() - 1));
        const passing by_mass = selection.where_mass_passes(target);
        CHECK(by_mass.at == sorted.where_mass_passes(target)->id);
        CHECK(by_mass.mass == sorted.where_mass_passes(target)->up_to);
        const std::size_t k = i == 0 ? 0 : random() % sorted.tokens().size();
        const passing by_count = selection.where_count_passes(k);
        CHECK(by_count.mass == sorted.tokens()[k].up_to);
        if (mass_of(sorted.tokens()[k].weight) > 0) CHECK(by_count.at == sorted.tokens()[k].id);
      }
      CHECK(selection.where_mass_passes(sorted.mass()).at == -1);
      CHECK(selection.where_mass_passes(sorted.mass()).mass == sorted.mass());
    }
}

TEST_CASE("truncated sampling chooses what a sort of the row chooses") {
  const unsigned seed = troupe::test::random_seed();
  std::mt19937 random(seed);
  const auto sets = available_isas();
  std::vector<sample_scratch> scratch(sets.size());
  for (std::size_t i = 0; i < sets.size(); ++i) scratch[i].kernels = &kernels_for(sets[i]);
  for (std::size_t shape = 0; shape < std::size(shapes); ++shape)
    for (const std::size_t n :
         {std::size_t{2}, std::size_t{300}, std::size_t{9001}, std::size_t{49152}, std::size_t{151936}}) {
      const std::vector<float> logits = row_of(n, shape, random);
      if (*std::max_element(logits.begin(), logits.end()) == -infinity) continue;
      const float temperature = random() % 2 == 0 ? 0.8f : 2.0f;
      const sorted_row sorted(logits, temperature);
      for (int i = 0; i < 14; ++i) {
        sampling_row how;
        how.temperature = temperature;
        how.top_k = i % 2 == 0 ? 0 : static_cast<std::int32_t>(1 + random() % (i % 4 == 1 ? 60 : n));
        how.top_p = i % 3 == 0 ? 0.95f : i % 3 == 1 ? static_cast<float>(random() % 1000) * 0.001f : 1.0f;
        how.min_p = i % 4 == 2 || (how.top_k == 0 && how.top_p == 1.0f)
                        ? static_cast<float>(random() % 1000) * 1e-4f + 1e-6f
                        : 0.0f;
        how.seed = random();
        how.counter = random();
        INFO(shapes[shape] << ", " << n << " logits, top_k " << how.top_k << " top_p " << how.top_p << " min_p "
                           << how.min_p << ", seed " << seed);
        const int expected = sorted.choice(how);
        for (std::size_t set = 0; set < sets.size(); ++set) {
          if (set != static_cast<std::size_t>(i) % sets.size() && n > 10000) continue;
          std::vector<float> row = logits;
          CHECK(sample_row(row, how, scratch[set]).id == expected);
        }
      }
    }
}

TEST_CASE("at a temperature next to nothing the best token is drawn, however the row is cut") {
  std::mt19937 random(troupe::test::random_seed());
  sample_scratch scratch;
  scratch.kernels = &kernels_for(best_isa());
  for (const std::size_t n : {std::size_t{100}, std::size_t{9001}}) {
    const std::vector<float> logits = row_of(n, 0, random);
    const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
    for (const float temperature : {1e-6f, 1e-40f})
      for (const float top_p : {1.0f, 0.9f})
        for (const std::int32_t top_k : {0, 50, 8000}) {
          sampling_row how;
          how.temperature = temperature;
          how.top_p = top_p;
          how.top_k = top_k;
          std::vector<float> row = logits;
          CHECK(sample_row(row, how, scratch).id == best);
        }
  }
}
