// The planner and the store with host memory behind the device's: what leaves comes back as it was, and nobody waits
// for ever.
#include "planner_checks.hpp"

using namespace troupe;
using namespace troupe::actors;

TEST_CASE("blocks that leave for host memory come back as they were, whatever joins, ends and fails meanwhile") {
  host_copies all;
  for (std::uint32_t seed = 6001; seed <= 6800; ++seed) random_life(seed, batch_policy::mix, 0, true, &all);
  for (std::uint32_t seed = 7001; seed <= 7400; ++seed) random_life(seed, batch_policy::choose, 1.5, true, &all);
  CHECK(all.restored > 1000);
  CHECK(all.lost > 100);
}

TEST_CASE("a prompt that left the device whole is not computed again") {
  simulated_engine engine(small(10, batch_policy::mix, true), 32);
  for (generation_id id = 1; id <= 4;
       ++id) {  // of 9 blocks each; the fourth pushes the first one out, of which 128 rows are left
    engine.admit(id, 130, 4, -1, static_cast<std::int32_t>(id % 3));
    engine.run_dry();
  }
  require_sound(engine);
  for (const auto& [id, one] : engine.fates) require_right_end(engine, id, one);
  REQUIRE(engine.prompt_rows == 3 * 130 + 2);
  REQUIRE(engine.fates[4].cached == 128);
  REQUIRE(engine.restored >= 7);
}

TEST_CASE("one that is cancelled while its blocks come back leaves them to others") {
  simulated_engine engine(small(10, batch_policy::mix, true), 32);
  for (generation_id id = 1; id <= 2; ++id) {
    engine.admit(id, 130, 4, -1, static_cast<std::int32_t>(id));
    engine.run_dry();
  }
  engine.admit(3, 130, 4, -1, 1);
  while (engine.restoring() == 0) engine.let(0);
  engine.cancel(3);
  engine.run_dry();
  const std::int64_t before = engine.restored;
  REQUIRE(before >= 7);
  engine.admit(4, 130, 4, -1, 1);
  engine.run_dry();
  require_sound(engine);
  REQUIRE(engine.fates[4].cached == 128);
  REQUIRE(engine.restored == before);
  REQUIRE(engine.store.free() == engine.store.total());
}
