// Pipelines on real actors: order, placement, failure and early ends, without a model.
#include <atomic>
#include <functional>
#include <future>
#include <stdexcept>
#include <thread>

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>

#include <troupe/pipeline.hpp>

#include "pipelines/pipeline_run.hpp"
#include "support/catch.hpp"

using namespace troupe;

namespace {

struct stage_of_actors {
  stage_of_actors() {
    config.set("scheduler.policy", caf::atom("sharing"));
    config.set("scheduler.max-threads", 2);
    system.emplace(config);
  }
  result<void> run(const pipeline& p) { return pipelines::run_graph(*system, p.built()); }
  caf::actor_system_config config;
  std::optional<caf::actor_system> system;
};

auto numbers(int count) {
  return from([n = 0, count]() mutable { return n < count ? std::optional<int>(n++) : std::nullopt; });
}

}  // namespace

TEST_CASE("items keep their order through pool and thread stages") {
  stage_of_actors s;
  std::vector<int> got;
  const pipeline p = numbers(20'000) >> [](int n) { return n + 1; } >> on_thread([](int n) { return n * 2; }) >>
                     on_pool([](int n) { return n / 2 - 1; }) >> on_thread([&got](int n) { got.push_back(n); });
  for (int round = 0; round < 3; ++round) {
    got.clear();
    REQUIRE(s.run(p));
    REQUIRE(got.size() == 20'000);
    for (int i = 0; i < 20'000; ++i) REQUIRE(got[static_cast<std::size_t>(i)] == i);
  }
}

TEST_CASE("a source on a thread may wait, and what it has found goes on at once") {
  stage_of_actors s;
  std::promise<int> answered;
  auto answer = answered.get_future();
  // Like a person who asks again when the first answer has been read.
  auto ask = [&answer, n = 0]() mutable -> std::optional<int> {
    if (n == 1 && answer.wait_for(std::chrono::seconds(20)) != std::future_status::ready) return std::nullopt;
    return n < 2 ? std::optional<int>(n++) : std::nullopt;
  };
  std::vector<int> got;
  const pipeline p = from(on_thread(std::ref(ask))) >> [&](int n) {
    got.push_back(n);
    if (n == 0) answered.set_value(n);
  };
  REQUIRE(s.run(p));
  REQUIRE(got == std::vector<int>{0, 1});
}

TEST_CASE("a stage on a thread may block without stopping the pool") {
  stage_of_actors s;
  std::atomic<int> others{0};
  std::atomic<bool> released{false};
  std::thread beside([&] {
    while (others < 1000) std::this_thread::yield();
    released = true;
  });
  // The sink waits for what another pipeline does on the pool meanwhile.
  const pipeline waits = numbers(3) >> on_thread([&](int) {
                           while (!released) std::this_thread::yield();
                         });
  std::thread first([&] { REQUIRE_NOTHROW(static_cast<void>(s.run(waits))); });
  REQUIRE(s.run(numbers(1000) >> [&](int) { ++others; }));
  first.join();
  beside.join();
  CHECK(released);
}

TEST_CASE("a stage that throws ends the whole pipeline with its reason, an endless source included") {
  stage_of_actors s;
  std::atomic<int> got{0};
  auto endless = from([n = 0]() mutable { return std::optional<int>(n++); });
  const auto ended = s.run(
      endless >>
      [](int n) {
        if (n == 500) throw std::runtime_error("500 is too much");
        return n;
      } >>
      [&](int) { ++got; });
  REQUIRE_FALSE(ended);
  CHECK(ended.why().text.find("500 is too much") != std::string::npos);
  CHECK(got <= 500);

  const auto refused = s.run(endless >> [](int n) {
    if (n == 10) throw failure({errc::overloaded, "enough", {}});
  });
  CHECK(refused.why().code == errc::overloaded);
}

TEST_CASE("an empty source ends its pipeline at once") {
  stage_of_actors s;
  int got = 0;
  REQUIRE(s.run(numbers(0) >> [](int n) { return n; } >> [&](int) { ++got; }));
  CHECK(got == 0);
}
