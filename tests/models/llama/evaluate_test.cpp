// The evaluator: its figures against ones computed from the raw logits, and its refusals.
#include "models/evaluate.hpp"

#include <cmath>

#include "kernels/cpu/cpu_lane.hpp"
#include "support/catch.hpp"
#include "tests/models/llama/step_driver.hpp"
#include "tests/support/tiny_model.hpp"

using namespace troupe;

namespace {

struct stage {
  test::scratch_path path{".gguf"};
  std::unique_ptr<kernels::cpu_lane> lane = std::move(kernels::make_cpu_lane({})).value_or_throw();
  std::shared_ptr<const models::loaded_model> model;

  stage() {
    REQUIRE(test::write_tiny_model(path.string()));
    model = std::move(models::load_model(path.string(), *lane)).value_or_throw();
  }
  models::evaluator evaluator(std::int32_t capacity, std::int32_t chunk) {
    return std::move(models::evaluator::create(model, *lane, capacity, chunk)).value_or_throw();
  }
};

std::vector<std::int32_t> ids_of(int count) {
  std::vector<std::int32_t> ids;
  for (int i = 0; i < count; ++i) ids.push_back((i * 37 + i * i) % test::tiny_vocabulary_size);
  return ids;
}

double log_probability(const std::vector<float>& logits, std::int32_t id) {
  double sum = 0;
  for (const float x : logits) sum += std::exp(static_cast<double>(x));
  return logits[static_cast<std::size_t>(id)] - std::log(sum);
}

}  // namespace

TEST_CASE("scores follow from the raw logits, whatever the chunk") {
  stage s;
  const auto ids = ids_of(45);
  test::step_driver driver(*s.model, *s.lane, 1, 64);
  const auto logits = driver.run({{0, ids}});
  double nll = 0;
  for (std::size_t t = 0; t + 1 < ids.size(); ++t) nll -= log_probability(logits[t], ids[t + 1]) / 44;
  for (const std::int32_t chunk : {1, 7, 64}) {
    auto evaluator = s.evaluator(64, chunk);
    const auto scored = evaluator.score(ids, 5);
    REQUIRE(scored.ok());
    CHECK(*scored->nll == Approx(nll));
    REQUIRE(scored->top.size() == ids.size());
    for (std::size_t t = 0; t < ids.size(); ++t) {
      REQUIRE(scored->top[t].size() == 5);
      const auto best = std::max_element(logits[t].begin(), logits[t].end()) - logits[t].begin();
      CHECK(scored->top[t][0].first == best);
      for (const auto& [id, logprob] : scored->top[t])
        CHECK(logprob == Approx(log_probability(logits[t], id)).margin(1e-5));
    }
  }
}

TEST_CASE("greedy continuation takes the best of each score") {
  stage s;
  auto evaluator = s.evaluator(128, 16);
  auto ids = ids_of(20);
  const auto answer = evaluator.continue_greedily(ids, 30);
  REQUIRE(answer.ok());
  REQUIRE(answer->greedy.size() == 30);
  ids.insert(ids.end(), answer->greedy.begin(), answer->greedy.end());
  const auto scored = evaluator.score(ids, 2);
  REQUIRE(scored.ok());
  for (std::size_t i = 0; i < 30; ++i) {
    const auto& best = scored->top[19 + i];
    CHECK(answer->greedy[i] == best[0].first);
    CHECK(answer->margin[i] == Approx(best[0].second - best[1].second).margin(1e-5));
  }
}

TEST_CASE("perplexity over one window is the score's, and strides score each token once") {
  stage s;
  auto evaluator = s.evaluator(64, 16);
  const auto ids = ids_of(60);
  const auto whole = evaluator.perplexity(ids, 64, 32);
  REQUIRE(whole.ok());
  CHECK(whole->tokens == 59);
  CHECK(whole->nll == Approx(*evaluator.score(ids)->nll));
  CHECK(whole->perplexity == Approx(std::exp(whole->nll)));
  const auto strided = evaluator.perplexity(ids, 16, 5);
  REQUIRE(strided.ok());
  CHECK(strided->tokens == 59);
  // Rebuild all windows by hand.
  double nll = 0;
  for (std::size_t start = 0, next = 1; next < ids.size(); start += 5) {
    const std::vector<std::int32_t> part(
        ids.begin() + static_cast<std::ptrdiff_t>(start),
        ids.begin() + static_cast<std::ptrdiff_t>(std::min<std::size_t>(start + 16, ids.size())));
    test::step_driver driver(*s.model, *s.lane, 1, 64);
    const auto logits = driver.run({{0, part}});
    for (; next < start + part.size(); ++next) nll -= log_probability(logits[next - 1 - start], ids[next]) / 59;
  }
  CHECK(strided->nll == Approx(nll));
}

TEST_CASE("perplexity of halves scores the second half of each whole window") {
  stage s;
  auto evaluator = s.evaluator(64, 16);
  const auto ids = ids_of(60);
  for (const bool with_first : {false, true}) {
    const auto halves =
        evaluator.perplexity_of_halves(ids, 16, with_first ? std::optional<std::int32_t>(2) : std::nullopt);
    REQUIRE(halves.ok());
    CHECK(halves->tokens == 3 * 7);  // the twelve tokens after the third window fill none; row 15 predicts nothing
    double nll = 0;
    for (std::size_t start = 0; start < 48; start += 16) {
      std::vector<std::int32_t> part(ids.begin() + static_cast<std::ptrdiff_t>(start),
                                     ids.begin() + static_cast<std::ptrdiff_t>(start + 16));
      if (with_first) part[0] = 2;
      test::step_driver driver(*s.model, *s.lane, 1, 64);
      const auto logits = driver.run({{0, part}});
      for (std::size_t t = 8; t < 15; ++t) nll -= log_probability(logits[t], part[t + 1]) / 21;
    }
    CHECK(halves->nll == Approx(nll));
    CHECK(halves->perplexity == Approx(std::exp(nll)));
  }
  CHECK(evaluator.perplexity_of_halves(ids, 64, {}).why().code == errc::invalid_argument);
  CHECK(evaluator.perplexity_of_halves(ids, 3, {}).why().param == "window");
}

TEST_CASE("the evaluator refuses what does not fit") {
  stage s;
  auto evaluator = s.evaluator(32, 8);
  CHECK(evaluator.score({}).why().code == errc::invalid_argument);
  const std::vector<std::int32_t> negative{1, -1};
  CHECK(evaluator.score(negative).why().param == "ids");
  const std::vector<std::int32_t> beyond{1, test::tiny_vocabulary_size};
  CHECK(evaluator.score(beyond).why().code == errc::invalid_argument);
  const auto long_ids = ids_of(33);
  const auto why = evaluator.score(long_ids).why();
  CHECK(why.code == errc::context_length_exceeded);
  CHECK(why.text.find("33") != std::string::npos);
  CHECK(why.text.find("32") != std::string::npos);
  CHECK(evaluator.continue_greedily(ids_of(30), 3).why().code == errc::context_length_exceeded);
  CHECK(evaluator.continue_greedily(ids_of(30), 2).ok());
  CHECK(evaluator.perplexity(long_ids, 33, 8).why().code == errc::invalid_argument);
  CHECK(evaluator.perplexity(long_ids, 32, 32).why().code == errc::invalid_argument);
  CHECK(models::evaluator::create(s.model, *s.lane, 0).why().code == errc::invalid_argument);
  const std::vector<std::int32_t> one{4};
  CHECK_FALSE(evaluator.score(one)->nll.has_value());
}
