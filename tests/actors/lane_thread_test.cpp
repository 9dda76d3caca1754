// The lane's thread under many posters. Run under ThreadSanitizer.
#include <atomic>
#include <future>
#include <string>
#include <vector>

#include "actors/lane/lane_thread.hpp"
#include "support/catch.hpp"

using namespace troupe::actors;

namespace {

/// Keeps the thread busy until told, so that what is posted meanwhile waits.
struct gate {
  explicit gate(lane_thread& lane) {
    lane.post(lane_kind::decode, [this] {
      closed.set_value();
      opened.get_future().wait();
    });
    closed.get_future().wait();
  }
  void open() { opened.set_value(); }
  std::promise<void> closed, opened;
};

/// Order holds within a kind only, so the last job of each kind has to report.
void wait_for_all(lane_thread& lane) {
  std::promise<void> done[2];
  lane.post(lane_kind::prefill, [&done] { done[0].set_value(); });
  lane.post(lane_kind::decode, [&done] { done[1].set_value(); });
  for (auto& one : done) one.get_future().wait();
}

}  // namespace

TEST_CASE("jobs of one kind run in order and decode goes before prefill, but not for ever") {
  lane_thread lane;
  std::string order;
  gate held(lane);
  for (const char c : {'a', 'b'}) lane.post(lane_kind::prefill, [&order, c] { order += c; });
  for (const char c : {'1', '2', '3', '4', '5', '6', '7', '8', '9'})
    lane.post(lane_kind::decode, [&order, c] { order += c; });
  held.open();
  wait_for_all(lane);
  REQUIRE(order == "1234a5678b9");
}

TEST_CASE("every job posted by many threads runs once, one at a time") {
  lane_thread lane;
  int plain = 0;  // unguarded: a race shows under ThreadSanitizer
  std::vector<std::thread> posters;
  for (int t = 0; t < 4; ++t)
    posters.emplace_back([&lane, &plain, t] {
      for (int i = 0; i < 500; ++i)
        lane.post(t % 2 == 0 ? lane_kind::decode : lane_kind::prefill, [&plain] { ++plain; });
    });
  for (auto& one : posters) one.join();
  wait_for_all(lane);
  REQUIRE(plain == 2000);
}

TEST_CASE("a job may post the next one") {
  lane_thread lane;
  std::promise<int> done;
  std::function<void(int)> next = [&](int n) {
    if (n == 100) return done.set_value(n);
    lane.post(lane_kind::decode, [&next, n] { next(n + 1); });
  };
  next(0);
  REQUIRE(done.get_future().get() == 100);
}

TEST_CASE("stop ends the job in hand, drops those waiting with what they hold, and refuses new ones") {
  lane_thread lane;
  const auto held_by_job = std::make_shared<int>(0);
  std::atomic<bool> ran{false};
  gate held(lane);
  lane.post(lane_kind::decode, [held_by_job, &ran] { ran = true; });
  lane.stop();
  REQUIRE(held_by_job.use_count() == 1);
  REQUIRE_FALSE(lane.post(lane_kind::decode, [] {}));
  REQUIRE_FALSE(lane.stopped_within(std::chrono::milliseconds(1)));
  held.open();
  REQUIRE(lane.stopped_within(std::chrono::seconds(60)));
  REQUIRE_FALSE(ran);
}
