// The planner under random traffic: whatever order messages arrive in, every sequence gets its own tokens, once.
#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <random>

#include "planner_checks.hpp"

using namespace troupe;
using namespace troupe::actors;

TEST_CASE("every admitted sequence ends once with its own tokens and every block comes back, mixed steps") {
  for (std::uint32_t seed = 1; seed <= 400; ++seed) random_life(seed, batch_policy::mix);
}

TEST_CASE("every admitted sequence ends once with its own tokens and every block comes back, bounded steps") {
  for (std::uint32_t seed = 2001; seed <= 2200; ++seed) random_life(seed, batch_policy::mix, 1.5);
}

TEST_CASE("every admitted sequence ends once with its own tokens and every block comes back, split steps") {
  for (std::uint32_t seed = 1001; seed <= 1400; ++seed) random_life(seed, batch_policy::split);
}

TEST_CASE("every admitted sequence ends once with its own tokens and every block comes back, chosen step by step") {
  for (std::uint32_t seed = 3001; seed <= 3400; ++seed) random_life(seed, batch_policy::choose, 1.5);
}

TEST_CASE("sequences start in the order of their arrival") {
  simulated_engine engine(small(64, batch_policy::mix));
  for (generation_id id = 1; id <= 20; ++id) engine.admit(id, static_cast<std::int32_t>(1 + id * 7 % 90), 5, -1);
  engine.run_dry();
  require_sound(engine);
  REQUIRE(engine.admission_order.size() == 20);
  for (generation_id id = 1; id <= 20; ++id) REQUIRE(engine.admission_order[id - 1] == id);
}

TEST_CASE("whatever comes and goes, nobody's prompt is begun before that of one who came earlier") {
  for (std::uint32_t seed = 1; seed <= 100; ++seed) {
    std::mt19937 random(seed);
    const auto up_to = [&random](std::uint32_t n) { return static_cast<std::int32_t>(random() % n); };
    simulated_engine engine(small(6 + up_to(12), seed % 2 == 0 ? batch_policy::mix : batch_policy::split));
    generation_id next = 1;
    while (next <= 30) {
      if (up_to(6) == 0) engine.admit(next++, 1 + up_to(70), 1 + up_to(20), -1);
      else if (up_to(20) == 0 && next > 1) engine.cancel(1 + random() % (next - 1));
      else engine.let(random() % 6);
    }
    engine.run_dry();
    require_sound(engine);
    CAPTURE(seed);
    REQUIRE(std::is_sorted(engine.admission_order.begin(), engine.admission_order.end()));
    for (const auto& [id, one] : engine.fates) REQUIRE((one.cancelled || one.ends == 1));
  }
}

TEST_CASE("a long prompt never keeps decodes from a step") {
  simulated_engine engine(small(200, batch_policy::mix));
  engine.admit(1, 4, 100, -1);
  while (engine.fates[1].tokens.empty()) engine.let(0);
  const std::size_t before = engine.plans.size();
  engine.admit(2, 1000, 2, -1);
  engine.run_dry();
  require_sound(engine);
  std::size_t chunks = 0;
  for (std::size_t i = before; i < engine.plans.size(); ++i) {
    const auto& work = engine.plans[i].work;
    if (work.back().rows <= 1) continue;
    ++chunks;
    REQUIRE((work.size() == 2 || engine.fates[1].ends == 1));
    REQUIRE(work.back().position % 16 == 0);
  }
  REQUIRE(chunks >= 1000 / 32);
}

TEST_CASE("the next step is planned while one computes") {
  simulated_engine engine(small(64, batch_policy::mix));
  engine.admit(1, 4, 100, -1);
  while (engine.fates[1].tokens.size() < 3) engine.let(0);
  REQUIRE(engine.planner.steps_in_flight(lane_kind::decode) == 2);
}

TEST_CASE("a small pool preempts, and the tokens stay the same") {
  simulated_engine engine(small(6, batch_policy::mix));
  for (generation_id id = 1; id <= 4; ++id) engine.admit(id, 3, 60, -1);
  engine.run_dry();
  require_sound(engine);
  REQUIRE(engine.preemptions > 0);
  for (const auto& [id, one] : engine.fates) require_right_end(engine, id, one);
}

TEST_CASE("a sequence alone that outgrows the pool fails with out_of_memory and gives its blocks back") {
  simulated_engine engine(small(2, batch_policy::mix));
  engine.admit(1, 10, 100, -1);
  engine.run_dry();
  require_sound(engine);
  REQUIRE(engine.fates[1].why == errc::out_of_memory);
  REQUIRE(engine.fates[1].tokens.size() == 2 * 16 - 10 + 1);
  REQUIRE(engine.store.free() == 2);
}

TEST_CASE("a prompt that can never fit is refused at once") {
  simulated_engine engine(small(2, batch_policy::mix));
  engine.admit(1, 32, 2, -1);
  REQUIRE(engine.fates[1].why == errc::out_of_memory);
  REQUIRE_FALSE(engine.fates[1].admitted);
  engine.admit(2, 32, 1, -1);  // needs no row beyond its prompt
  engine.run_dry();
  REQUIRE(engine.fates[2].how == sequence_end::length);
}

TEST_CASE("a full queue refuses with overloaded, by count and by tokens") {
  auto options = small(64, batch_policy::mix);
  options.max_sequences = 1;
  options.queue_sequences = 2;
  options.queue_tokens = 100;
  simulated_engine engine(options);
  engine.admit(1, 4, 100, -1);
  engine.let(0);
  engine.let(1);
  engine.admit(2, 60, 1, -1);
  engine.admit(3, 60, 1, -1);
  REQUIRE(engine.fates[3].why == errc::overloaded);
  engine.admit(4, 30, 1, -1);
  REQUIRE(engine.fates[4].admitted);
  engine.admit(5, 1, 1, -1);
  REQUIRE(engine.fates[5].why == errc::overloaded);
}

TEST_CASE("a paused sequence yields its place to one that waits, and goes on later") {
  auto options = small(64, batch_policy::mix);
  options.max_sequences = 1;
  simulated_engine engine(options);
  engine.admit(1, 4, 40, -1);
  while (engine.fates[1].tokens.size() < 5) engine.let(0);
  engine.pause(1, true);
  engine.admit(2, 4, 10, -1);
  engine.run_dry();
  require_right_end(engine, 2, engine.fates[2]);
  REQUIRE(engine.fates[1].ends == 0);
  engine.pause(1, false);
  engine.run_dry();
  require_sound(engine);
  require_right_end(engine, 1, engine.fates[1]);
}

TEST_CASE("after close new sequences are refused and old ones finish") {
  simulated_engine engine(small(64, batch_policy::mix));
  engine.admit(1, 4, 10, -1);
  engine.planner.close();
  engine.admit(2, 4, 10, -1);
  engine.run_dry();
  REQUIRE(engine.fates[2].why == errc::shutting_down);
  require_right_end(engine, 1, engine.fates[1]);
  REQUIRE(engine.planner.empty());
}

TEST_CASE("fail_all ends every sequence and gives every block back") {
  simulated_engine engine(small(20, batch_policy::split));
  for (generation_id id = 1; id <= 6; ++id) engine.admit(id, 20, 30, -1);
  for (int i = 0; i < 40; ++i) engine.let(static_cast<std::size_t>(i));
  planner_outputs out;
  engine.planner.fail_all({errc::internal, "the lane died", {}}, out);
  REQUIRE(engine.planner.empty());
  REQUIRE(engine.planner.check() == "");
  REQUIRE(engine.planner.free_blocks() == 20);
  REQUIRE_FALSE(out.failures.empty());
}

TEST_CASE("prompt chunks beside decodes are as long as their bound lets them") {
  // 5 ms for the decodes of a step, 10 us for each prompt row.
  planner_options options = planner_for(9, 2048, 4096);
  options.most_growth = 1.5;
  step_planner planner(options);
  kv_store store(options.total_blocks);
  std::deque<std::shared_ptr<const step_plan>> plans;
  const auto carry_out = [&](planner_outputs out) {
    for (;;) {
      for (const auto& routed : out.plans) plans.push_back(routed.plan);
      if (out.needs.empty()) return;
      const auto grants = store.reserve(out.needs);
      out = {};
      planner.granted(grants, store.free(), out);
    }
  };
  const auto admit = [&](generation_id id, std::size_t prompt, std::int32_t tokens) {
    auto terms = std::make_shared<sequence_terms>();
    terms->generation = id;
    terms->max_tokens = tokens;
    planner_outputs out;
    planner.admit(terms, std::make_shared<const std::vector<std::int32_t>>(prompt, 1), 0, out);
    carry_out(std::move(out));
  };
  clock::time_point now{};
  std::vector<std::int32_t> mixed;            // prompt rows of the steps that hold both
  std::map<std::int32_t, std::int32_t> rows;  // by slot: so many are known
  const auto step = [&] {
    REQUIRE_FALSE(plans.empty());
    const auto plan = plans.front();
    plans.pop_front();
    for (const slot_join& join : plan->joins) rows[join.slot] = static_cast<std::int32_t>(join.tokens->size());
    step_result result;
    result.step = plan->step;
    result.started = now;
    for (const slot_work& work : plan->work)
      (work.position < rows[work.slot] ? result.prefill_rows : result.decode_rows) += work.rows;
    now += std::chrono::microseconds(5000 + 10 * result.prefill_rows);
    result.ended = now;
    if (result.prefill_rows > 0 && result.decode_rows > 0) mixed.push_back(result.prefill_rows);
    planner_outputs out;
    planner.done(result, out);
    carry_out(std::move(out));
  };
  for (generation_id id = 1; id <= 8; ++id) admit(id, 32, 4000);
  for (int i = 0; i < 60; ++i) step();
  mixed.clear();
  admit(9, 8000, 10);
  for (int i = 0; i < 30; ++i) step();
  REQUIRE(mixed.size() > 20);
  // The first are short: nobody knows yet what a row costs. Then 250 rows are 2.5 ms.
  CHECK(mixed.front() == 128);
  CHECK(mixed.back() <= 256);
  CHECK(mixed.back() >= 208);
}
