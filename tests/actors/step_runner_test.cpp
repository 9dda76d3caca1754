// The runner on a real lane with a scripted network: the next token is a function of the last one.
#include <cmath>
#include <limits>
#include <numeric>

#include "actors/lane/step_runner.hpp"
#include "kernels/cpu/cpu_lane.hpp"
#include "support/catch.hpp"
#include "support/late_lane.hpp"

using namespace troupe;
using namespace troupe::actors;

namespace {

constexpr std::int32_t vocabulary = 64;
constexpr std::int32_t poison = 13;  // its successor's logits are no numbers

constexpr std::int32_t successor(std::int32_t id) { return (id * 5 + 7) % vocabulary; }

class scripted_network final : public models::network {
public:
  scripted_network() {
    shape_.layers = 1, shape_.width = 32, shape_.heads = 1, shape_.kv_heads = 1, shape_.head_dim = 32;
    shape_.feed_forward = 32, shape_.vocabulary = vocabulary, shape_.context = 256;
  }
  const models::model_shape& shape() const noexcept override { return shape_; }
  std::int64_t bytes_per_step() const noexcept override { return 1; }
  memory::tensor_view forward(kernels::lane&, models::layer_range, const models::step_batch& batch,
                              models::forward_scratch& scratch, kernels::kv_arena&) const override {
    if (explode) throw std::bad_alloc();
    auto logits = scratch.logits(static_cast<std::int64_t>(batch.sample_rows.size()));
    for (std::size_t r = 0; r < batch.sample_rows.size(); ++r) {
      const std::int32_t id = batch.ids[static_cast<std::size_t>(batch.sample_rows[r])];
      float* row = logits.f32(static_cast<std::int64_t>(r));
      for (std::int32_t v = 0; v < vocabulary; ++v)
        row[v] = id == poison ? std::numeric_limits<float>::quiet_NaN() : (v == successor(id) ? 10.0f : 0.0f);
    }
    return logits;
  }
  mutable bool explode = false;

private:
  models::model_shape shape_;
};

struct bench {
  std::unique_ptr<kernels::cpu_lane> lane;
  std::unique_ptr<test::late_lane> late, prompts;
  const scripted_network* network = nullptr;
  std::unique_ptr<step_runner> runner;

  explicit bench(bool deferred = false, bool two_queues = false) {
    lane = *kernels::make_cpu_lane({1, kernels::isa::scalar, true});
    auto model = std::make_shared<models::loaded_model>();
    auto made = std::make_unique<scripted_network>();
    network = made.get();
    model->network = std::move(made);
    late = std::make_unique<test::late_lane>(*lane);
    kernels::lane& used = deferred ? static_cast<kernels::lane&>(*late) : *lane;
    if (two_queues) prompts = std::make_unique<test::late_lane>(*lane);
    runner = *step_runner::create(model, used, {4, 64, 16, prompts.get()});
  }
};

slot_join join(std::int32_t slot, generation_id id, std::vector<std::int32_t> tokens, std::int32_t max_tokens,
               std::vector<std::int32_t> ends = {}, std::int32_t generated = 0) {
  auto terms = std::make_shared<sequence_terms>();
  terms->generation = id;
  terms->max_tokens = max_tokens;
  terms->end_ids = std::move(ends);
  terms->how.temperature = 0;
  return {slot, terms, std::make_shared<const std::vector<std::int32_t>>(std::move(tokens)), generated};
}

}  // namespace

TEST_CASE("a sequence goes through chunks and decodes, each token fed to the next step, and ends by length") {
  bench b;
  step_plan first;
  first.step = 1;
  first.joins = {join(2, 9, {1, 2, 3}, 3)};
  first.work = {{2, 0, 2, false, {5}}};
  auto result = b.runner->run(first);
  REQUIRE(result.tokens.empty());
  REQUIRE(result.prefill_rows == 2);
  step_plan second;
  second.work = {{2, 2, 1, true, {}}};
  result = b.runner->run(second);
  REQUIRE(result.prefill_rows == 1);
  REQUIRE(result.tokens.at(0).id == successor(3));
  REQUIRE(result.tokens[0].generation == 9);
  std::int32_t last = result.tokens[0].id;
  for (std::int32_t position = 3; position < 5; ++position) {
    step_plan next;
    next.work = {{2, position, 1, true, {}}};
    result = b.runner->run(next);
    REQUIRE(result.decode_rows == 1);
    REQUIRE(result.tokens.at(0).id == successor(last));
    last = result.tokens[0].id;
    REQUIRE(result.tokens[0].end == (position == 4 ? sequence_end::length : sequence_end::none));
  }
  step_plan late;
  late.work = {{2, 5, 1, true, {}}};
  REQUIRE(b.runner->run(late).tokens.empty());  // planned before its end was known: skipped
}

TEST_CASE("an end token ends a sequence, and its slot takes a new one") {
  bench b;
  step_plan plan;
  plan.step = 1;
  plan.joins = {join(0, 1, {4}, 10, {successor(4)})};
  plan.work = {{0, 0, 1, true, {0}}};
  REQUIRE(b.runner->run(plan).tokens.at(0).end == sequence_end::eos);
  step_plan next;
  next.step = 2;
  next.leaves = {{0, 1}};
  next.joins = {join(0, 2, {5, 6}, 10, {}, 1)};
  next.work = {{0, 0, 2, true, {1}}};
  const auto result = b.runner->run(next);
  REQUIRE(result.tokens.at(0).generation == 2);
  REQUIRE(result.tokens[0].id == successor(6));
  step_plan stale;
  stale.step = 3;
  stale.leaves = {{0, 1}};  // overtaken by the join: must not empty the slot
  stale.work = {{0, 2, 1, true, {}}};
  REQUIRE(b.runner->run(stale).tokens.size() == 1);
}

TEST_CASE("logits that are no numbers fail one sequence and not its neighbour") {
  bench b;
  step_plan plan;
  plan.joins = {join(0, 1, {poison}, 10), join(1, 2, {8}, 10)};
  plan.work = {{0, 0, 1, true, {0}}, {1, 0, 1, true, {1}}};
  const auto result = b.runner->run(plan);
  REQUIRE(result.tokens.size() == 2);
  REQUIRE(result.tokens[0].end == sequence_end::failed);
  REQUIRE(result.tokens[0].why.code == errc::numeric);
  REQUIRE(result.tokens[1].id == successor(8));
  REQUIRE(result.tokens[1].end == sequence_end::none);
}

TEST_CASE("a plan that breaks the rules fails its sequence and nothing else") {
  bench b;
  step_plan plan;
  plan.joins = {join(0, 1, {1, 2}, 10), join(1, 2, {8}, 10), join(2, 3, std::vector<std::int32_t>(30, 1), 10)};
  plan.work = {{0, 1, 1, true, {0}}, {1, 0, 1, true, {1}}, {2, 0, 30, true, {2}}, {99, 0, 1, true, {}}};
  const auto result = b.runner->run(plan);
  REQUIRE(result.tokens.size() == 3);
  int failed = 0;
  for (const auto& token : result.tokens) {
    failed += token.end == sequence_end::failed ? 1 : 0;
    REQUIRE((token.generation == 2) == (token.end == sequence_end::none));
  }
  REQUIRE(failed == 2);
}

TEST_CASE("after a step that threw, fail ends every sequence of it") {
  bench b;
  step_plan plan;
  plan.joins = {join(0, 1, {1}, 10), join(1, 2, {8}, 10)};
  plan.work = {{0, 0, 1, true, {0}}, {1, 0, 1, true, {1}}};
  b.network->explode = true;
  REQUIRE_THROWS_AS(b.runner->run(plan), std::bad_alloc);
  b.network->explode = false;
  REQUIRE(b.runner->fail(plan, {errc::out_of_memory, "none left", {}}).tokens.size() == 2);
  step_plan next;
  next.work = {{0, 1, 1, true, {}}, {1, 1, 1, true, {}}};
  REQUIRE(b.runner->run(next).tokens.empty());
}

namespace {

step_plan decode_of(std::uint64_t step, std::int32_t slot, std::int32_t position) {
  step_plan plan;
  plan.step = step;
  plan.work = {{slot, position, 1, true, {}}};
  return plan;
}

}  // namespace

TEST_CASE("a step begins before the last one is read, fed with what that one chose") {
  bench b(true);
  step_plan first;
  first.step = 1;
  first.joins = {join(2, 9, {1, 2, 3}, 10)};
  first.work = {{2, 0, 3, true, {5}}};
  REQUIRE_FALSE(b.runner->begin(first).result.has_value());
  REQUIRE_FALSE(b.runner->begin(decode_of(2, 2, 3)).result.has_value());
  REQUIRE(b.late->looked_up == 1);
  auto result = b.runner->finish(lane_kind::decode);
  REQUIRE(result.step == 1);
  REQUIRE(result.tokens.at(0).id == successor(3));
  REQUIRE_FALSE(b.runner->begin(decode_of(3, 2, 4)).result.has_value());
  REQUIRE(b.runner->finish(lane_kind::decode).tokens.at(0).id == successor(successor(3)));
  REQUIRE(b.runner->finish(lane_kind::decode).tokens.at(0).id == successor(successor(successor(3))));
  REQUIRE(b.late->counters == std::vector<std::uint64_t>{0, 1, 2});
}

TEST_CASE("an end that is read a step late drops the token computed meanwhile") {
  bench b(true);
  step_plan first;
  first.step = 1;
  first.joins = {join(0, 1, {4}, 10, {successor(4)}), join(1, 2, {8}, 10)};
  first.work = {{0, 0, 1, true, {0}}, {1, 0, 1, true, {1}}};
  step_plan second;
  second.step = 2;
  second.work = {{0, 1, 1, true, {}}, {1, 1, 1, true, {}}};
  b.runner->begin(first);
  b.runner->begin(second);
  REQUIRE(b.runner->finish(lane_kind::decode).tokens.at(0).end == sequence_end::eos);
  const auto late = b.runner->finish(lane_kind::decode);
  REQUIRE(late.tokens.size() == 1);
  REQUIRE(late.tokens[0].generation == 2);
  step_plan next;  // the slot is free for another
  next.step = 3;
  next.leaves = {{0, 1}};
  next.joins = {join(0, 3, {5}, 10)};
  next.work = {{0, 0, 1, true, {2}}};
  REQUIRE(b.runner->run(next).tokens.at(0).id == successor(5));
}

TEST_CASE("penalties wait for the tokens that they count, and results still come in order") {
  bench b(true);
  auto penalised = join(0, 1, {4}, 10);
  auto terms = std::make_shared<sequence_terms>(*penalised.terms);
  terms->how.frequency_penalty = 0.1f;
  penalised.terms = terms;
  step_plan first;
  first.step = 1;
  first.joins = {penalised};
  first.work = {{0, 0, 1, true, {0}}};
  b.runner->begin(first);
  b.runner->begin(decode_of(2, 0, 1));
  REQUIRE(b.late->looked_up == 0);
  REQUIRE(b.late->seen == std::vector<std::size_t>{1, 2});
  REQUIRE(b.runner->finish(lane_kind::decode).step == 1);
  REQUIRE(b.runner->finish(lane_kind::decode).step == 2);
}

TEST_CASE("a sequence may start behind rows that others computed, and penalties count its whole prompt") {
  bench b(true);
  std::vector<std::int32_t> prompt(20);
  std::iota(prompt.begin(), prompt.end(), 20);
  auto late_start = join(0, 1, prompt, 10);
  auto terms = std::make_shared<sequence_terms>(*late_start.terms);
  terms->how.repetition_penalty = 1.01f;
  late_start.terms = terms;
  late_start.cached = 16;
  step_plan first;
  first.step = 1;
  first.joins = {late_start};
  first.work = {{0, 16, 4, true, {7, 3}}};
  b.runner->begin(first);
  const auto result = b.runner->finish(lane_kind::decode);
  REQUIRE(result.prefill_rows == 4);
  REQUIRE(result.tokens.at(0).id == successor(39));
  REQUIRE(b.late->seen == std::vector<std::size_t>{20});
  step_plan again = first;
  again.work = {{0, 0, 4, false, {7, 3}}};  // what it said was there
  REQUIRE(b.runner->run(again).tokens.at(0).end == sequence_end::failed);
}

TEST_CASE("a lane that is gone fails the step's sequences and says so") {
  bench b(true);
  step_plan plan;
  plan.step = 1;
  plan.joins = {join(0, 1, {4}, 10), join(1, 2, {8}, 10)};
  plan.work = {{0, 0, 1, true, {0}}, {1, 0, 1, false, {1}}};
  b.late->lost = true;
  const auto begun = b.runner->begin(plan);
  REQUIRE(begun.result.has_value());
  REQUIRE(begun.result->tokens.size() == 2);
  REQUIRE(begun.result->tokens[0].end == sequence_end::failed);
  REQUIRE(begun.result->lane_lost.has_value());
}

TEST_CASE("with two queues a prompt's step may end before or after decode steps that were begun beside it") {
  bench b(true, true);
  const auto chunk = [](std::uint64_t step, slot_join who, std::int32_t block) {
    step_plan plan;
    plan.step = step;
    plan.lane = lane_kind::prefill;
    plan.work = {{who.slot, 0, static_cast<std::int32_t>(who.tokens->size()), true, {block}}};
    plan.joins = {std::move(who)};
    return plan;
  };
  const auto decode = [](std::uint64_t step, std::int32_t slot, std::int32_t position) {
    step_plan plan;
    plan.step = step;
    plan.work = {{slot, position, 1, true, {}}};
    return plan;
  };
  REQUIRE(b.runner->run(chunk(1, join(0, 1, {3}, 9), 0)).tokens.at(0).id == successor(3));
  std::int32_t token = successor(3);
  // Two decode steps in flight beside a prompt's; the decodes end first.
  REQUIRE_FALSE(b.runner->begin(decode(2, 0, 1)).result);
  REQUIRE_FALSE(b.runner->begin(chunk(3, join(1, 2, {7, 8}, 9), 1)).result);
  REQUIRE_FALSE(b.runner->begin(decode(4, 0, 2)).result);
  for (const std::uint64_t step : {2, 4}) {
    const auto result = b.runner->finish(lane_kind::decode);
    CHECK(result.step == step);
    CHECK(result.tokens.at(0).id == successor(token));
    token = successor(token);
  }
  const auto prompt = b.runner->finish(lane_kind::prefill);
  CHECK(prompt.step == 3);
  CHECK(prompt.tokens.at(0).id == successor(8));
  // Now both decode together, the one from a token that the other queue chose.
  step_plan both = decode(5, 0, 3);
  both.work.push_back({1, 2, 1, true, {}});
  REQUIRE_FALSE(b.runner->begin(both).result);
  REQUIRE_FALSE(b.runner->begin(chunk(6, join(2, 3, {9}, 9), 2)).result);
  CHECK(b.runner->finish(lane_kind::prefill).tokens.at(0).id == successor(9));
  const auto result = b.runner->finish(lane_kind::decode);
  CHECK(result.tokens.at(0).id == successor(token));
  CHECK(result.tokens.at(1).id == successor(successor(8)));
}

TEST_CASE("a runner that goes with steps in flight leaves none of them to the next on its lane") {
  bench b(true);
  step_plan first;
  first.step = 1;
  first.joins = {join(0, 1, {3}, 9)};
  first.work = {{0, 0, 1, true, {0}}};
  step_plan second;
  second.step = 2;
  second.work = {{0, 1, 1, true, {}}};
  REQUIRE_FALSE(b.runner->begin(first).result);
  REQUIRE_FALSE(b.runner->begin(second).result);
  auto model = std::make_shared<models::loaded_model>();
  model->network = std::make_unique<scripted_network>();
  b.runner = *step_runner::create(model, *b.late, {4, 64, 16});
  first.joins = {join(0, 7, {11}, 9)};
  const auto result = b.runner->run(first);
  REQUIRE(result.tokens.size() == 1);
  CHECK(result.tokens[0].id == successor(11));
}
