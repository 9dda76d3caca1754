// What is left of the engine's actors when a step throws or hangs, an actor dies, or a device is lost; and their stop.
#include "actor_bench.hpp"

using namespace troupe;
using namespace troupe::actors;

TEST_CASE("a step that throws fails its sequences, and the next request is served") {
  actor_bench b;
  b.admit(1, 4, 10);
  b.machine->explode = true;
  b.step();
  b.machine->explode = false;
  b.run_dry();
  REQUIRE(b.seen.failures.at(1).code == errc::internal);
  b.admit(2, 4, 3);
  b.require_nothing_left();
  REQUIRE(b.seen.ends.at(2) == sequence_end::length);
}

TEST_CASE("when an actor dies, what runs fails visibly, the engine is unhealthy, and later requests fail too") {
  actor_bench b;
  b.admit(1, 4, 10);
  caf::anon_send_exit(b.links->kv_store, caf::exit_reason::kill);
  b.run->run();
  REQUIRE_FALSE(b.metrics->healthy);
  REQUIRE(b.seen.failures.at(1).code == errc::internal);
  b.admit(2, 4, 10);
  REQUIRE(b.seen.failures.at(2).code == errc::internal);
  std::string reason;
  caf::anon_send(b.links->scheduler,
                 probe_engine{[&](const result<void>& healthy) { reason = healthy ? "none" : healthy.why().text; }});
  b.run_dry();
  CHECK(reason.find("kv_store") != std::string::npos);
}

TEST_CASE("when the scheduler dies the shards are told to end") {
  actor_bench b;
  b.admit(1, 4, 10);
  caf::anon_send_exit(b.links->scheduler, caf::exit_reason::kill);
  b.run->run();
  REQUIRE(b.seen.stopped);
  REQUIRE_FALSE(b.metrics->healthy);
}

TEST_CASE("stop_engine ends every actor and reports once") {
  actor_bench b;
  b.admit(1, 4, 10);
  int stopped = 0;
  caf::anon_send(b.supervisor, stop_engine{[&] { ++stopped; }});
  b.run->run();
  REQUIRE(stopped == 1);
  REQUIRE(b.seen.stopped);
  REQUIRE(b.metrics->healthy);
}

TEST_CASE("a step that hangs is given up: its engine fails visibly and says why") {
  actor_bench b(planner_for(64, 512, 64), std::chrono::seconds(20));
  b.admit(1, 4, 10);
  b.step();
  b.step();
  b.admit(2, 4, 10);
  // From here on the lane's jobs lie there. Each look is a sixteenth of the patience after the last.
  const auto wait = [&](std::chrono::seconds time) {
    for (auto left = time; left.count() > 0; left -= std::chrono::seconds(1)) {
      b.now += std::chrono::seconds(1);
      b.run->advance_time(std::chrono::seconds(1));
      b.run->run();
    }
  };
  wait(std::chrono::seconds(18));
  REQUIRE(b.metrics->healthy);
  REQUIRE(b.lost.empty());
  wait(std::chrono::seconds(5));
  REQUIRE_FALSE(b.metrics->healthy);
  REQUIRE(b.lost.size() == 1);
  CHECK(b.lost[0].text.find("hangs") != std::string::npos);
  CHECK(b.metrics->hung_steps == 1);
  CHECK(b.seen.failures.at(1).code == errc::internal);
  CHECK(b.seen.failures.at(2).code == errc::internal);
  std::string reason;
  caf::anon_send(b.links->scheduler,
                 probe_engine{[&](const result<void>& healthy) { reason = healthy ? "none" : healthy.why().text; }});
  b.run->run();
  CHECK(reason == b.lost[0].text);
  b.admit(3, 4, 10);
  CHECK(b.seen.failures.at(3).code == errc::internal);
}

TEST_CASE("the watchdog lets a busy engine be, and an idle one sleep") {
  actor_bench b(planner_for(64, 512, 64), std::chrono::seconds(20));
  b.admit(1, 4, 40);
  for (int i = 0; i < 60; ++i) {
    b.now += std::chrono::seconds(5);
    b.run->advance_time(std::chrono::seconds(5));
    b.run->run();
    b.step();
  }
  CHECK(b.metrics->healthy);
  CHECK(b.seen.tokens.at(1).size() == 40);
  b.run->advance_time(std::chrono::seconds(60));
  b.run->run();
  CHECK_FALSE(b.run->has_pending_timeout());
}

TEST_CASE("a device that is lost fails what runs, and the engine says so once") {
  actor_bench b;
  b.machine->lose = true;
  b.admit(1, 4, 10);
  b.run_dry();
  CHECK(b.lost.size() == 1);
  CHECK_FALSE(b.metrics->healthy);
  CHECK(b.seen.failures.at(1).code == errc::internal);
}
