// When a step counts as hung.
#include "actors/scheduler/step_watch.hpp"

#include "support/catch.hpp"

using namespace troupe::actors;
using namespace std::chrono_literals;

TEST_CASE("a step may take ten times the longest before it, and patience at least") {
  step_watch watch(20s);
  clock::time_point now{100s};
  watch.planned(lane_kind::decode, now);
  CHECK_FALSE(watch.overdue(now + 20s));
  CHECK(watch.overdue(now + 21s) == clock::duration(21s));
  watch.ended(lane_kind::decode, now + 5s);
  now += 5s;
  CHECK_FALSE(watch.running());
  watch.planned(lane_kind::decode, now);
  CHECK_FALSE(watch.overdue(now + 50s));
  CHECK(watch.overdue(now + 51s));
}

TEST_CASE("a step that waits behind another is not running, and one that hangs is not hidden by the other kind's") {
  step_watch watch(20s);
  clock::time_point now{100s};
  watch.planned(lane_kind::prefill, now);
  for (int i = 0; i < 30; ++i) {
    watch.planned(lane_kind::decode, now);
    watch.planned(lane_kind::decode, now);
    watch.ended(lane_kind::decode, now + 500ms);
    watch.ended(lane_kind::decode, now + 1s);
    now += 1s;
    CHECK(watch.overdue(now).has_value() == (i >= 20));
  }
}

TEST_CASE("without patience nothing is overdue") {
  step_watch watch(0s);
  watch.planned(lane_kind::decode, {});
  CHECK_FALSE(watch.overdue(clock::time_point(1000h)));
}
