// sample_row against plain definitions: sorted lists, exact softmax in double, counted draws.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <vector>

#include "kernels/cpu/sample_row.hpp"
#include "support/catch.hpp"

using namespace troupe::kernels;

namespace {

std::vector<float> random_logits(std::size_t n, unsigned seed, float spread = 3.0f) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal(0.0f, spread);
  std::vector<float> logits(n);
  for (float& x : logits) x = normal(rng);
  return logits;
}

/// The exact distribution after temperature, top_k, top_p and min_p, by the definitions, in double.
std::map<int, double> exact(const std::vector<float>& logits, const sampling_row& how) {
  std::vector<int> order(logits.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int>(i);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return logits[a] > logits[b]; });
  if (how.top_k > 0 && how.top_k < static_cast<int>(order.size())) order.resize(how.top_k);
  std::vector<double> p;
  double total = 0;
  for (int id : order) total += p.emplace_back(std::exp((double(logits[id]) - logits[order[0]]) / how.temperature));
  std::map<int, double> kept;
  double mass = 0, sum = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (i > 0 && ((how.top_p < 1.0f && mass >= how.top_p * total) || p[i] < how.min_p)) break;
    mass += p[i];
    kept[order[i]] = p[i];
    sum += p[i];
  }
  for (auto& [id, weight] : kept) weight /= sum;
  return kept;
}

/// Chi-square of counted draws; classes that expect under 5 are joined.
void expect_distribution(const std::vector<float>& logits, sampling_row how, int draws) {
  const auto wanted = exact(logits, how);
  std::map<int, int> seen;
  sample_scratch scratch;
  for (int i = 0; i < draws; ++i) {
    auto row = logits;
    how.counter = static_cast<std::uint64_t>(i);
    ++seen[sample_row(row, how, scratch).id];
  }
  double chi = 0, rest_wanted = 0, rest_seen = 0;
  int classes = 0;
  for (const auto& [id, count] : seen) REQUIRE(wanted.count(id) == 1);
  for (const auto& [id, p] : wanted) {
    const double expected = p * draws, got = seen.count(id) ? seen[id] : 0;
    if (expected < 5) {
      rest_wanted += expected;
      rest_seen += got;
      continue;
    }
    chi += (got - expected) * (got - expected) / expected;
    ++classes;
  }
  if (rest_wanted >= 5) {
    chi += (rest_seen - rest_wanted) * (rest_seen - rest_wanted) / rest_wanted;
    ++classes;
  }
  INFO("chi-square " << chi << " over " << classes << " classes");
  REQUIRE(chi < classes + 5 * std::sqrt(2.0 * classes) + 5);
}

}  // namespace

TEST_CASE("the passes over a row give the same bits on every instruction set") {
  for (const std::size_t n : {1u, 15u, 32u, 33u, 129u, 1000u, 4099u}) {
    std::vector<float> logits = random_logits(n, 77, 20.0f);
    logits[n / 2] = -INFINITY;
    logits.back() = 300.0f;
    const auto count = static_cast<std::int64_t>(n);
    std::vector<float> sums((n + 31) / 32);
    const double total = scalar_kernels().sampling.exponential_sums(logits.data(), count, 300.0f, 0.7f, sums.data());
    for (const isa which : available_isas()) {
      INFO(to_string(which) << " " << n);
      const kernel_set& set = kernels_for(which);
      std::vector<float> found_sums(sums.size());
      CHECK(set.sampling.exponential_sums(logits.data(), count, 300.0f, 0.7f, found_sums.data()) == total);
      CHECK(found_sums == sums);
    }
  }
}

TEST_CASE("the largest of each run is found, and a run that holds no number says so") {
  for (const isa which : available_isas())
    for (const std::size_t run : {32u, 128u})
      for (const std::size_t n : {1u, 31u, 128u, 129u, 1000u, 4099u}) {
        INFO(to_string(which) << " " << n << " by " << run);
        const std::vector<float> logits = random_logits(n, static_cast<unsigned>(n + run), 20.0f);
        const auto of = [&](const std::vector<float>& row) {
          std::vector<float> best((n + run - 1) / run);
          kernels_for(which).sampling.best_of_runs(row.data(), static_cast<std::int64_t>(n),
                                                   static_cast<std::int64_t>(run), best.data());
          return best;
        };
        std::vector<float> wanted;
        for (std::size_t first = 0; first < n; first += run)
          wanted.push_back(*std::max_element(logits.begin() + first, logits.begin() + std::min(n, first + run)));
        CHECK(of(logits) == wanted);
        for (std::size_t at = 0; at < n; at += 37)
          for (const float poison : {NAN, INFINITY}) {
            std::vector<float> bad = logits;
            bad[at] = poison;
            const auto found = of(bad);
            for (std::size_t i = 0; i < found.size(); ++i) CHECK(std::isnan(found[i]) == (i == at / run));
          }
        CHECK(of(std::vector<float>(n, -INFINITY)) == std::vector<float>(wanted.size(), -INFINITY));
      }
}

TEST_CASE("philox gives the published answers") {
  // Known answers of the authors' Random123 for philox4x32-10: counter 0, key 0; and all ones.
  REQUIRE(philox(0, 0) == std::array<std::uint32_t, 4>{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u});
  REQUIRE(philox(0, 1) != philox(0, 0));
  REQUIRE(philox(1, 0) != philox(0, 0));
}

TEST_CASE("greedy takes the best token and ties go to the lowest id") {
  sample_scratch scratch;
  for (unsigned seed = 0; seed < 50; ++seed) {
    auto logits = random_logits(1 + seed * 37, seed);
    const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
    auto row = logits;
    REQUIRE(sample_row(row, {}, scratch).id == best);
    row = logits;
    row.insert(row.end(), logits.begin(), logits.end());
    REQUIRE(sample_row(row, {}, scratch).id == best);
  }
}

TEST_CASE("draws follow the exact distribution under every truncation") {
  const auto logits = random_logits(1000, 5);
  sampling_row how;
  how.seed = 42;
  how.temperature = 0.8f;
  SECTION("none") { expect_distribution(logits, how, 15000); }
  SECTION("top_k") {
    how.top_k = 40;
    expect_distribution(logits, how, 15000);
  }
  SECTION("top_k over the vocabulary") {
    how.top_k = 5000;
    expect_distribution(logits, how, 10000);
  }
  SECTION("top_p") {
    how.top_p = 0.9f;
    expect_distribution(logits, how, 15000);
  }
  SECTION("top_p near one") {
    how.top_p = 0.999f;
    expect_distribution(logits, how, 10000);
  }
  SECTION("min_p") {
    how.min_p = 0.05f;
    expect_distribution(logits, how, 15000);
  }
  SECTION("all of them") {
    how.top_k = 100;
    how.top_p = 0.95f;
    how.min_p = 0.01f;
    expect_distribution(logits, how, 15000);
  }
}

TEST_CASE("the same seed and counter choose the same token and other seeds differ") {
  const auto logits = random_logits(49152, 9, 1.0f);
  sampling_row how;
  how.temperature = 1.0f;
  sample_scratch scratch, other;
  int differ = 0;
  for (std::uint64_t i = 0; i < 20; ++i) {
    how.seed = 7;
    how.counter = i;
    auto a = logits, b = logits, c = logits;
    const auto first = sample_row(a, how, scratch).id;
    REQUIRE(sample_row(b, how, other).id == first);
    how.seed = 8;
    differ += sample_row(c, how, scratch).id != first;
  }
  REQUIRE(differ > 15);
}

TEST_CASE("penalties and bias change the logits as defined") {
  std::vector<float> logits{1.0f, -2.0f, 3.0f, 0.5f, 0.0f};
  const std::vector<token_count> seen{{0, 2, false}, {1, 0, true}, {2, 1, true}};
  const std::vector<std::pair<std::int32_t, float>> bias{{3, 100.0f}, {2, -1.0f}};
  sampling_row how;
  how.seen = seen;
  how.bias = bias;
  how.repetition_penalty = 2.0f;
  how.presence_penalty = 0.5f;
  how.frequency_penalty = 0.25f;
  sample_scratch scratch;
  REQUIRE(sample_row(logits, how, scratch).id == 3);
  REQUIRE(logits == std::vector<float>{1.0f / 2 - 0.5f - 0.5f, -4.0f, 2.0f / 2 - 0.5f - 0.25f, 100.5f, 0.0f});
}

TEST_CASE("log-probabilities are those of the exact softmax, best first") {
  for (unsigned seed = 0; seed < 5; ++seed) {
    const auto logits = random_logits(10007, seed);
    double sum = 0;
    for (float x : logits) sum += std::exp(double(x));
    auto row = logits;
    sampling_row how;
    how.temperature = 0.5f;
    how.seed = seed;
    how.top_logprobs = 20;
    sample_scratch scratch;
    const auto pick = sample_row(row, how, scratch);
    REQUIRE(pick.logprob == Approx(logits[pick.id] - std::log(sum)).margin(1e-4));
    auto sorted = logits;
    std::sort(sorted.rbegin(), sorted.rend());
    REQUIRE(pick.top.size() == 20);
    for (std::size_t i = 0; i < 20; ++i) {
      REQUIRE(logits[pick.top[i].first] == sorted[i]);
      REQUIRE(pick.top[i].second == Approx(sorted[i] - std::log(sum)).margin(1e-4));
    }
  }
}

TEST_CASE("a row that is not numbers gives no token") {
  sample_scratch scratch;
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (float temperature : {0.0f, 1.0f})
    for (float bad : {nan, inf}) {
      auto logits = random_logits(100, 1);
      logits[57] = bad;
      sampling_row how;
      how.temperature = temperature;
      REQUIRE(sample_row(logits, how, scratch).id == -1);
    }
  std::vector<float> nothing(64, -inf);
  REQUIRE(sample_row(nothing, {}, scratch).id == -1);
  nothing[33] = 1.0f;
  REQUIRE(sample_row(nothing, {}, scratch).id == 33);
}

TEST_CASE("maxima known ahead change no choice") {
  std::mt19937 rng(11);
  const auto below = [&](std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(rng); };
  sample_scratch scratch;
  scratch.kernels = &kernels_for(best_isa());
  int numbers = 0;
  for (unsigned round = 0; round < 600; ++round) {
    const std::size_t n = round % 3 == 0 ? 49152 : 1 + below(5000);
    auto logits = random_logits(n, round, round % 2 == 0 ? 3.0f : 0.5f);
    if (round % 5 == 1)
      for (float& x : logits) x = std::round(x);  // ties
    if (round % 5 == 2)
      for (std::size_t i = 0; i < n; ++i) logits[below(n)] = -INFINITY;
    if (round % 50 == 3) logits[below(n)] = round % 100 == 3 ? NAN : INFINITY;
    if (round % 50 == 4) logits.assign(n, -INFINITY);
    std::vector<float> known((n + 127) / 128);
    scratch.kernels->sampling.best_of_runs(logits.data(), static_cast<std::int64_t>(n), 128, known.data());

    sampling_row how;
    how.temperature = round % 4 == 0 ? 0.0f : 0.5f + static_cast<float>(round % 3);
    how.top_k = round % 4 == 1 ? static_cast<std::int32_t>(1 + below(600)) : round % 4 == 2 ? 40 : 0;
    how.top_p = round % 3 == 1 ? 0.95f : 1.0f;
    how.min_p = round % 7 == 1 ? 0.02f : 0.0f;
    how.top_logprobs = round % 11 == 0 ? 5 : -1;
    how.seed = round;
    std::vector<token_count> seen;
    std::vector<std::pair<std::int32_t, float>> bias;
    if (round % 2 == 1) {  // the best token of all loses its place, others gain one
      const auto best = static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
      seen.push_back({best, 3, true});
      for (std::size_t i = below(40); i > 0; --i) seen.push_back({static_cast<std::int32_t>(below(n)), 1, false});
      for (std::size_t i = below(5); i > 0; --i)
        bias.emplace_back(static_cast<std::int32_t>(below(n)), i % 2 == 0 ? 15.0f : -INFINITY);
      how.repetition_penalty = 1.3f;
      how.frequency_penalty = 2.0f;
    }
    how.seen = seen;
    how.bias = bias;

    auto one = logits, other = logits;
    const sampled plain = sample_row(one, how, scratch);
    const sampled ahead = sample_row(other, how, scratch, known);
    INFO("round " << round << ", " << n << " logits");
    CHECK(ahead.id == plain.id);
    CHECK(ahead.logprob == plain.logprob);
    CHECK(ahead.top == plain.top);
    numbers += plain.id >= 0;
  }
  CHECK(numbers > 500);
  CHECK(numbers < 600);
}
