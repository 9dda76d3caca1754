// Counting agreements with the reference. Knows no lane.
#include "tests/models/llama/reference_checks.hpp"

#include <cmath>

#include "support/catch.hpp"

namespace troupe::test {

double divergence(const scored& expected, const scored& found) {
  double sum = 0;
  for (const auto& [id, logprob] : expected) {
    double other = found.back().second;
    for (const auto& [known, value] : found) {
      if (known == id) other = value;
    }
    sum += std::exp(logprob) * (logprob - other);
  }
  return sum;
}

void check_logits(models::evaluator& evaluator) {
  const auto lines = read_reference("tests/reference/logits.jsonl");
  REQUIRE_FALSE(lines.empty());
  int positions = 0;
  int agreeing = 0;
  double total = 0;
  for (const reference_line& line : lines) {
    const auto scored = evaluator.score(line.ids, 100);
    REQUIRE(scored.ok());
    for (std::size_t t = 0; t < line.ids.size(); ++t, ++positions) {
      const auto& expected = line.top[t];
      const auto& found = scored->top[t];
      agreeing += expected[0].first == found[0].first;
      total += divergence(expected, found);
      if (expected[0].second - expected[1].second > 1.0) CHECK(expected[0].first == found[0].first);
    }
  }
  INFO(positions << " positions, top-1 " << agreeing << ", divergence " << total / positions);
  CHECK(agreeing >= 0.95 * positions);
  CHECK(total / positions < 0.01);
}

void check_greedy(models::evaluator& evaluator) {
  const auto lines = read_reference("tests/reference/greedy.jsonl");
  REQUIRE_FALSE(lines.empty());
  int positions = 0;
  int agreeing = 0;
  for (const reference_line& line : lines) {
    auto ids = line.ids;  // teacher-forced: the reference's own continuation
    ids.insert(ids.end(), line.greedy.begin(), line.greedy.end());
    const auto scored = evaluator.score(ids, 1);
    REQUIRE(scored.ok());
    for (std::size_t i = 0; i < line.greedy.size(); ++i, ++positions) {
      const bool agrees = scored->top[line.ids.size() - 1 + i][0].first == line.greedy[i];
      agreeing += agrees;
      if (line.margin[i] > 1.0) CHECK(agrees);
    }
  }
  CHECK(agreeing >= 0.95 * positions);
}

void check_likelihood(models::evaluator& evaluator) {
  double off = 0, predicted = 0;
  for (const char* file : {"tests/reference/logits.jsonl", "tests/reference/nll.jsonl"})
    for (const reference_line& line : read_reference(file)) {
      const auto scored = evaluator.score(line.ids, 0);
      REQUIRE(scored.ok());
      off += (*scored->nll - line.nll) * static_cast<double>(line.ids.size() - 1);
      predicted += static_cast<double>(line.ids.size() - 1);
    }
  REQUIRE(predicted > 600);
  INFO("nll off by " << off / predicted << " over " << predicted << " tokens");
  CHECK(std::abs(off) / predicted < 0.015);
}

}  // namespace troupe::test
