// What every life of the simulated engine has to come to, whatever happened in it.
#pragma once

#include <random>

#include "simulated_engine.hpp"
#include "support/catch.hpp"
#include "support/planner_set_up.hpp"

namespace troupe::actors {

inline planner_options small(std::int32_t blocks, batch_policy policy, bool share = false) {
  planner_options options = planner_for(4, 32, blocks, policy);
  options.share_prefixes = share;
  return options;
}

inline void require_sound(const simulated_engine& engine) {
  INFO(engine.planner.draw() << engine.store.draw());
  REQUIRE(engine.broken == "");
}

inline void require_right_end(const simulated_engine& engine, generation_id id, const simulated_engine::fate& one) {
  INFO("generation " << id << "\n" << engine.planner.draw());
  for (std::size_t i = 0; i < one.tokens.size(); ++i)
    REQUIRE(one.tokens[i] == true_token(id, static_cast<std::int32_t>(i)));
  if (one.cancelled) {
    REQUIRE(one.ends <= 1);
    return;
  }
  REQUIRE(one.ends == 1);
  if (one.how == sequence_end::failed && one.step_failed) return;
  if (one.how == sequence_end::failed) {
    REQUIRE((one.why == errc::out_of_memory || one.why == errc::overloaded));
    // Who could have had the whole pool must not be told that it is too small.
    if (one.why == errc::out_of_memory) REQUIRE(blocks_for(one.prompt + one.max_tokens - 1, 16) > engine.store.total());
    return;
  }
  const bool by_token = one.eos_after >= 0 && one.eos_after < one.max_tokens;
  REQUIRE(one.how == (by_token ? sequence_end::eos : sequence_end::length));
  REQUIRE(static_cast<std::int32_t>(one.tokens.size()) == (by_token ? one.eos_after : one.max_tokens));
}

struct host_copies {
  std::int64_t restored = 0, lost = 0;
};

/// With `host`, blocks leave for host memory, and copies fail; how many came back and how many were lost is added
/// there.
inline void random_life(std::uint32_t seed, batch_policy policy, double most_growth = 0, bool share = false,
                        host_copies* host = nullptr) {
  std::mt19937 random(seed);
  const auto up_to = [&random](std::uint32_t n) { return static_cast<std::int32_t>(random() % n); };
  planner_options options = small(3 + up_to(12), policy, share);
  options.least_awaited = 16 + up_to(64);
  options.most_growth = most_growth;
  options.least_chunk = 16;
  options.most_mixed_steps = 1;
  simulated_engine engine(options, host ? 1 + up_to(20) : 0);
  generation_id next = 1;
  for (int step = 0; step < 400; ++step) {
    const auto what = up_to(20);
    if (what == 0 && next < 30)
      engine.admit(next++, 1 + up_to(70), 1 + up_to(60), up_to(3) == 0 ? up_to(40) : -1, up_to(3),
                   16 * up_to(3) + up_to(2));
    else if (share && what == 2 && up_to(6) == 0) engine.fail_a_step();
    else if (host && what == 3 && up_to(6) == 0) engine.fail_a_copy();
    else if (what == 1 && next > 1)
      up_to(3) == 0 ? engine.cancel(1 + random() % (next - 1)) : engine.pause(1 + random() % (next - 1), up_to(2) == 0);
    else engine.let(random() % 12);
    require_sound(engine);
  }
  for (generation_id id = 1; id < next; ++id) engine.pause(id, false);
  engine.run_dry();
  require_sound(engine);
  CAPTURE(seed);
  for (const auto& [id, one] : engine.fates) require_right_end(engine, id, one);
  INFO(engine.planner.draw() << engine.store.draw());
  REQUIRE(engine.planner.empty());
  REQUIRE(engine.store.free() == engine.store.total());
  if (!host) return;
  host->restored += engine.restored;
  host->lost += engine.lost;
}

}  // namespace troupe::actors
