// Counts of seen tokens against counting from the start.
#include <random>

#include "actors/sampler/sampler_state.hpp"
#include "support/catch.hpp"

using namespace troupe;
using namespace troupe::actors;

namespace {

std::shared_ptr<sequence_terms> terms_with(float presence) {
  auto terms = std::make_shared<sequence_terms>();
  terms->generation = 77;
  terms->how.presence_penalty = presence;
  terms->how.seed = 5;
  terms->how.logit_bias = {{3, 1.5f}};
  return terms;
}

}  // namespace

TEST_CASE("incremental counts equal counts from the start, also after a preemption") {
  std::mt19937 random(1);
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < 30; ++i) tokens.push_back(static_cast<std::int32_t>(random() % 10));
  const std::size_t prompt = tokens.size();
  sampler_state state(terms_with(0.5f), tokens, 0);
  for (int i = 0; i < 50; ++i) {
    tokens.push_back(static_cast<std::int32_t>(random() % 20));
    state.add(tokens.back());
  }
  const sampler_state again(terms_with(0.5f), tokens, 50);
  for (const auto& one : {state.row(), again.row()}) {
    REQUIRE(one.counter == 50);
    REQUIRE(one.seed == 5);
    REQUIRE(one.bias.size() == 1);
    std::int32_t in_output = 0;
    for (const auto& count : one.seen) {
      std::int32_t generated = 0;
      bool in_prompt = false;
      for (std::size_t i = 0; i < tokens.size(); ++i)
        if (tokens[i] == count.id) (i < prompt ? (void)(in_prompt = true) : (void)++generated);
      REQUIRE(count.in_output == generated);
      REQUIRE(count.in_prompt == in_prompt);
      in_output += count.in_output;
    }
    REQUIRE(in_output == 50);
  }
}

TEST_CASE("without penalties nothing is counted") {
  const std::vector<std::int32_t> tokens{1, 2, 3};
  sampler_state state(terms_with(0.0f), tokens, 0);
  state.add(4);
  REQUIRE(state.row().seen.empty());
  REQUIRE(state.row().counter == 1);
}
