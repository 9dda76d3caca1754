// When a team goes on with fewer members, and when it tries again: on a hand-driven clock.
#include "support/catch.hpp"

#include "kernels/cpu/team_width.hpp"

using namespace std::chrono_literals;
using troupe::kernels::team_width;

namespace {

struct driven_width {
  team_width width;
  team_width::time_point now = team_width::time_point(100s);
  explicit driven_width(int members) : width(members) {}

  /// Dispatches of `each` for `time`, of which `lost` goes by waiting, until the width changes.
  void run(team_width::duration time, team_width::duration each, team_width::duration lost) {
    const int before = width.width();
    for (const auto end = now + time; now < end && width.width() == before;) {
      if (width.narrowed()) width.widen_if_due(now);
      now += each;
      if (lost > 0ns && width.width() == before) width.waited(now, lost);
    }
  }
};

}  // namespace

TEST_CASE("a team that waits little stays whole for ever") {
  driven_width two(2);
  two.run(10s, 1ms, 250us);
  CHECK(two.width.width() == 2);
  driven_width many(16);
  many.run(10s, 1ms, 100us);
  CHECK(many.width.width() == 16);
}

TEST_CASE("one long wait is no reason to narrow") {
  driven_width team(2);
  team.width.waited(team.now, 8ms);
  CHECK(team.width.width() == 2);
  for (int i = 0; i < 100; ++i) {
    team.now += 200ms;
    team.width.waited(team.now, 8ms);
  }
  CHECK(team.width.width() == 2);
}

TEST_CASE("bursts of waiting with quiet between them are no reason to narrow") {
  driven_width team(2);
  for (int i = 0; i < 100; ++i) {
    team.run(300ms, 5ms, 100us);
    for (const auto lost : {5ms, 4ms, 3ms, 7ms}) team.width.waited(team.now += 8ms, lost);
    team.width.waited(team.now += 200ms, 200ms);  // the whole machine stood still
    CHECK(team.width.width() == 2);
  }
}

TEST_CASE("a burst long after a trial does not lengthen the absences") {
  driven_width team(2);
  for (int attempt = 0; attempt < 8; ++attempt) {
    team.run(10s, 5ms, 4ms);
    REQUIRE(team.width.width() == 1);
    const auto left = team.now;
    team.run(10s, 1ms, 0ns);
    CHECK(team.now - left < 150ms);
    team.run(100ms, 5ms, 0ns);  // the trial has passed
  }
}

TEST_CASE("a team that mostly waits gives up a member within some time slices, and never the last") {
  driven_width two(2);
  const auto begin = two.now;
  two.run(1s, 5ms, 4ms);
  CHECK(two.width.width() == 1);
  CHECK(two.now - begin < 80ms);
  for (int i = 0; i < 100; ++i) two.width.waited(two.now += 1ms, 1ms);
  CHECK(two.width.width() == 1);
}

TEST_CASE("the more members, the less waiting one of them is worth") {
  for (const auto& [members, lost] : {std::pair{4, 1000us}, {8, 700us}, {16, 500us}}) {
    driven_width team(members);
    team.run(2s, 5ms, lost);
    CHECK(team.width.width() == members);
    team.run(2s, 5ms, 2 * lost);
    CHECK(team.width.width() == members - 1);
  }
}

TEST_CASE("a member is tried again, more and more rarely while its neighbour stays") {
  driven_width team(2);
  team_width::duration away = 0ns;
  for (int attempt = 0; attempt < 12; ++attempt) {
    team.run(10s, 5ms, 4ms);
    REQUIRE(team.width.width() == 1);
    const auto left = team.now;
    team.run(10s, 1ms, 0ns);
    REQUIRE(team.width.width() == 2);
    CHECK(team.now - left >= away - 1ms);
    CHECK(team.now - left < 2s);
    away = team.now - left;
  }
  CHECK(away > 1500ms);
}

TEST_CASE("after a good time the next neighbour starts with short absences again") {
  driven_width team(2);
  for (int attempt = 0; attempt < 8; ++attempt) {
    team.run(10s, 5ms, 4ms);
    team.run(10s, 1ms, 0ns);
  }
  team.run(60s, 5ms, 0ns);
  team.run(10s, 5ms, 4ms);
  REQUIRE(team.width.width() == 1);
  const auto left = team.now;
  team.run(10s, 1ms, 0ns);
  CHECK(team.now - left < 150ms);
}
