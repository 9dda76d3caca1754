// The planner with shared prefixes: who starts where, who waits for whom, and what is offered to nobody.
#include "planner_checks.hpp"

using namespace troupe;
using namespace troupe::actors;

TEST_CASE("sequences that begin alike read only rows that finished steps computed from their tokens, mixed steps") {
  for (std::uint32_t seed = 3001; seed <= 3600; ++seed) random_life(seed, batch_policy::mix, 0, true);
}

TEST_CASE("sequences that begin alike read only rows that finished steps computed from their tokens, split steps") {
  for (std::uint32_t seed = 4001; seed <= 4600; ++seed) random_life(seed, batch_policy::split, 0, true);
}

TEST_CASE(
    "sequences that begin alike read only rows that finished steps computed from their tokens, chosen step by step") {
  for (std::uint32_t seed = 5001; seed <= 5400; ++seed) random_life(seed, batch_policy::choose, 1.5, true);
}

TEST_CASE("a second sequence starts behind the full blocks of the first, and computes its last token") {
  simulated_engine engine(small(64, batch_policy::mix, true));
  engine.admit(1, 70, 3, -1);
  engine.run_dry();
  REQUIRE(engine.prompt_rows == 70);
  engine.admit(2, 70, 3, -1);
  engine.run_dry();
  REQUIRE(engine.fates[1].cached == 0);
  REQUIRE(engine.fates[2].cached == 64);
  REQUIRE(engine.prompt_rows == 70 + 6);
  engine.admit(3, 64, 3, -1);  // ends with a block: its last token is sampled from
  engine.run_dry();
  REQUIRE(engine.fates[3].cached == 48);
  require_sound(engine);
  for (const auto& [id, one] : engine.fates) require_right_end(engine, id, one);
}

TEST_CASE("what a sequence has generated others find when it ends, while its last steps are still computed") {
  for (const bool stopped : {true, false}) {  // by its reader, or by its end token
    simulated_engine engine(small(64, batch_policy::mix, true));
    std::vector<std::int32_t> prompt(32, 7);
    engine.admit_tokens(1, prompt, 100, stopped ? -1 : 20);
    while (engine.fates[1].ends == 0 && engine.fates[1].tokens.size() < 22) engine.let(0);
    if (stopped) engine.cancel(1);
    REQUIRE(engine.planner.steps_in_flight(lane_kind::decode) > 0);
    for (std::int32_t i = 0; i < 20; ++i) prompt.push_back(true_token(1, i));
    engine.admit_tokens(2, prompt, 3, -1);
    engine.run_dry();
    require_sound(engine);
    REQUIRE(engine.fates[2].cached == 48);
  }
}

TEST_CASE("who begins like one that is being computed waits for its rows; others go on") {
  auto options = small(64, batch_policy::mix, true);
  simulated_engine engine(options);
  engine.admit(1, 200, 3, -1, 0);
  engine.admit(2, 220, 3, -1, 0);
  engine.admit(3, 20, 3, -1, 1);
  engine.run_dry();
  require_sound(engine);
  REQUIRE(engine.fates[2].cached == 192);
  REQUIRE(engine.prompt_rows == 200 + 28 + 20);
  REQUIRE(engine.admission_order == std::vector<generation_id>{1, 3, 2});
  // For less than least_awaited tokens it is not worth it.
  simulated_engine hasty(options);
  hasty.admit(1, 200, 3, -1, 0, 48);
  hasty.admit(2, 220, 3, -1, 1, 48);
  hasty.run_dry();
  REQUIRE(hasty.fates[2].cached == 0);
}

TEST_CASE("one that waits for another's rows goes on when that one ends or is paused") {
  for (const bool cancelled : {true, false}) {
    simulated_engine engine(small(64, batch_policy::mix, true));
    engine.admit(1, 200, 3, -1);
    engine.admit(2, 200, 3, -1);
    for (int i = 0; i < 8; ++i) engine.let(0);
    cancelled ? engine.cancel(1) : engine.pause(1, true);
    engine.run_dry();
    require_sound(engine);
    require_right_end(engine, 2, engine.fates[2]);
    REQUIRE(engine.fates[2].cached > 0);
    REQUIRE(engine.fates[2].cached < 192);
  }
}

TEST_CASE("shared blocks let more sequences run than have room alone") {
  auto options = small(16, batch_policy::mix, true);
  simulated_engine engine(options);
  engine.admit(1, 130, 30, -1);  // 9 of 16 blocks
  engine.admit(2, 130, 30, -1);
  while (engine.fates[1].tokens.empty()) engine.let(0);
  for (int i = 0; i < 8; ++i) engine.let(static_cast<std::size_t>(i));
  REQUIRE(engine.planner.running() == 2);
  engine.run_dry();
  require_sound(engine);
  REQUIRE(engine.preemptions == 0);
  REQUIRE(engine.fates[2].cached == 128);
}

TEST_CASE("a preempted sequence finds its own rows again") {
  auto options = small(64, batch_policy::mix, true);
  options.max_sequences = 1;
  simulated_engine engine(options);
  engine.admit(1, 40, 60, -1);
  while (engine.fates[1].tokens.size() < 30) engine.let(0);
  engine.pause(1, true);
  engine.admit(2, 10, 3, -1, 1);
  engine.run_dry();
  engine.pause(1, false);
  engine.run_dry();
  require_sound(engine);
  REQUIRE(engine.preemptions == 1);
  REQUIRE(engine.cached_rows >= 64);
  REQUIRE(engine.fates[1].cached == 0);  // of its prompt nothing was, when it began
  require_right_end(engine, 1, engine.fates[1]);
}

TEST_CASE("what a failed step wrote is offered to nobody") {
  simulated_engine engine(small(64, batch_policy::mix, true));
  engine.admit(1, 100, 3, -1);
  while (engine.prompt_rows < 64) engine.let(0);
  engine.fail_a_step();
  engine.run_dry();
  REQUIRE(engine.fates[1].step_failed);
  engine.admit(2, 100, 3, -1);
  engine.run_dry();
  require_sound(engine);
  REQUIRE(engine.fates[2].cached == 0);
  require_right_end(engine, 2, engine.fates[2]);
}
