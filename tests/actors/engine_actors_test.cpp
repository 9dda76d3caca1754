// Scheduler, KV store, lanes and supervisor as actors, on CAF's test scheduler: no thread, no clock, a scripted lane,
// and a stream shard that writes down what it is told.
#include <caf/all.hpp>
#include <caf/scheduler/test_coordinator.hpp>

#include "actors/decode/decode_actor.hpp"
#include "actors/kv_store/kv_store_actor.hpp"
#include "actors/metrics.hpp"
#include "actors/prefill/prefill_actor.hpp"
#include "actors/scheduler/scheduler_actor.hpp"
#include "actors/supervisor/supervisor_actor.hpp"
#include "scripted_lane.hpp"
#include "support/catch.hpp"
#include "support/planner_set_up.hpp"

using namespace troupe;
using namespace troupe::actors;

namespace {

struct notes {
  std::map<generation_id, std::vector<std::int32_t>> tokens;
  std::map<generation_id, sequence_end> ends;
  std::map<generation_id, error> failures;
  std::map<generation_id, std::int32_t> admitted;
  std::map<generation_id, clock::time_point> started;
  std::map<generation_id, std::int32_t> cached;
  bool stopped = false;
  std::function<void(generation_id)> on_end = {};  ///< what a client does at once
};

class noting_stream : public stream_handle::base {
public:
  noting_stream(caf::actor_config& config, notes& to) : stream_handle::base(config), to_(to) {}

protected:
  behavior_type make_behavior() override {
    return {[](const open_generation&) {},
            [this](const generation_admitted& m) { to_.admitted[m.id] = m.prompt_tokens; },
            [this](const prefill_started& m) {
              to_.started[m.id] = m.when;
              to_.cached[m.id] = m.cached_tokens;
            },
            [this](const generation_failed& m) { to_.failures[m.id] = m.why; },
            [this](const step_tokens& m) {
              for (const auto& token : m.result->tokens) {
                to_.tokens[token.generation].push_back(token.id);
                if (token.end != sequence_end::none) to_.ends[token.generation] = token.end;
                if (token.end == sequence_end::failed) to_.failures[token.generation] = token.why;
                if (token.end != sequence_end::none && to_.on_end) to_.on_end(token.generation);
              }
            },
            [](const open_subscription&) {},
            [](const close_subscription&) {},
            [](const grant_credit&) {},
            [](const cancel_generation&) {},
            [](const sweep_generations&) {},
            [](const wire_engine&) {},
            [this](const stop_actor&) {
              to_.stopped = true;
              quit();
            }};
  }

private:
  notes& to_;
};

struct bench {
  caf::actor_system_config config;
  std::unique_ptr<caf::actor_system> system;
  caf::scheduler::test_coordinator* run = nullptr;
  notes seen;
  clock::time_point now{std::chrono::seconds(100)};
  std::shared_ptr<held_queue> queue = std::make_shared<held_queue>();
  std::shared_ptr<scripted_machine> machine = std::make_shared<scripted_machine>();
  std::shared_ptr<engine_metrics> metrics = std::make_shared<engine_metrics>();
  std::shared_ptr<const engine_links> links;
  supervisor_handle supervisor;

  std::vector<error> lost;

  explicit bench(planner_options planner = planner_for(64, 512, 64), clock::duration patience = {}) {
    config.set("scheduler.policy", caf::atom("testing"));
    system = std::make_unique<caf::actor_system>(config);
    run = &dynamic_cast<caf::scheduler::test_coordinator&>(system->scheduler());
    const auto time = [this] { return now; };
    const lane_setup setup{queue, machine, time, metrics};
    auto made = std::make_shared<engine_links>();
    made->streams = {system->spawn<noting_stream>(seen)};
    made->kv_store = spawn_kv_store(*system, planner.total_blocks, planner.total_blocks, metrics);
    made->prefill = spawn_prefill(*system, setup);
    made->decode = spawn_decode(*system, setup);
    made->scheduler = spawn_scheduler(*system, {planner, time, metrics, patience, [this](const error& why) { lost.push_back(why); }});
    supervisor = spawn_supervisor(*system, metrics);
    links = made;
    const wire_engine wire{links};
    caf::anon_send(supervisor, wire);
    caf::anon_send(links->scheduler, wire);
    caf::anon_send(links->kv_store, wire);
    caf::anon_send(links->prefill, wire);
    caf::anon_send(links->decode, wire);
    run->run();
  }
  ~bench() {
    caf::anon_send(supervisor, stop_engine{});
    run->run();
    queue->jobs.clear();
    links.reset();
    supervisor = supervisor_handle();
  }

  void admit(generation_id id, std::int32_t prompt, std::int32_t max_tokens) {
    send_admit(id, std::vector<std::int32_t>(static_cast<std::size_t>(prompt), 1), max_tokens);
    run->run();
  }
  void send_admit(generation_id id, std::vector<std::int32_t> prompt, std::int32_t max_tokens) {
    auto terms = std::make_shared<sequence_terms>();
    terms->generation = id;
    terms->max_tokens = max_tokens;
    caf::anon_send(links->scheduler, admit_sequence{terms, std::make_shared<const std::vector<std::int32_t>>(std::move(prompt)), 0});
  }
  void end(generation_id id) {
    caf::anon_send<caf::message_priority::high>(links->scheduler, end_sequence{id});
    run->run();
  }
  bool step() {
    const bool ran = queue->run_one();
    run->run();
    return ran;
  }
  void run_dry() {
    while (step()) {
    }
  }
  void require_nothing_left() {
    run_dry();
    REQUIRE(metrics->running == 0);
    REQUIRE(metrics->queued == 0);
    REQUIRE(metrics->kv_blocks_free == 64);
  }
};

}  // namespace

TEST_CASE("a request is admitted, started, decoded to its length, and leaves nothing behind") {
  bench b;
  b.admit(7, 20, 5);
  REQUIRE(b.seen.admitted.at(7) == 20);
  REQUIRE(b.seen.started.at(7) == b.now);
  REQUIRE(b.seen.tokens.empty());
  b.require_nothing_left();
  REQUIRE(b.seen.tokens.at(7) == std::vector<std::int32_t>{100, 101, 102, 103, 104});
  REQUIRE(b.seen.ends.at(7) == sequence_end::length);
  REQUIRE(b.seen.failures.empty());
}

TEST_CASE("two steps are in flight while one decodes") {
  bench b;
  b.admit(1, 4, 50);
  b.step();
  REQUIRE(b.queue->jobs.size() == 2);
  b.step();
  REQUIRE(b.queue->jobs.size() == 2);
}

TEST_CASE("a cancel takes effect at every stage: queued, in prefill, in decode with steps in flight") {
  bench b(planner_for(1, 32, 64));
  b.admit(1, 100, 50);
  b.admit(2, 10, 50);
  REQUIRE(b.metrics->queued == 1);
  b.end(2);
  REQUIRE(b.metrics->queued == 0);
  b.step();
  b.end(1);  // two chunks in flight
  REQUIRE(b.metrics->running == 1);
  b.step();
  b.step();
  REQUIRE(b.metrics->running == 0);
  b.admit(3, 10, 50);
  for (int i = 0; i < 5; ++i) b.step();
  const std::size_t before = b.seen.tokens.at(3).size();
  b.end(3);
  b.require_nothing_left();
  REQUIRE(b.seen.tokens.at(3).size() <= before + 2);
  REQUIRE(b.machine->steps < 20);
}

TEST_CASE("what one request computed the next finds, and its stream is told how much") {
  planner_options options = planner_for(64, 512, 64);
  options.share_prefixes = true;
  bench b(options);
  b.admit(1, 100, 5);
  b.run_dry();
  REQUIRE(b.seen.cached.at(1) == 0);
  REQUIRE(b.metrics->kv_blocks_cached == 6);
  REQUIRE(b.metrics->kv_blocks_free == 58);
  b.admit(2, 100, 5);
  REQUIRE(b.seen.cached.at(2) == 96);
  REQUIRE(b.metrics->prefix_cache_hit_tokens == 96);
  REQUIRE(b.metrics->kv_blocks_cached == 0);
  b.run_dry();
  REQUIRE(b.metrics->kv_blocks_cached == 6);
  REQUIRE(b.metrics->kv_blocks_free == 58);
}

TEST_CASE("who goes on from an answer the moment it ends finds all of it computed") {
  planner_options options = planner_for(64, 512, 64);
  options.share_prefixes = true;
  bench b(options);
  b.admit(1, 20, 30);
  b.seen.on_end = [&](generation_id id) {
    if (id != 1) return;
    std::vector<std::int32_t> prompt(20, 1);
    for (std::int32_t i = 0; i < 40; ++i) prompt.push_back(100 + i);
    b.send_admit(2, std::move(prompt), 5);
  };
  while (!b.queue->jobs.empty()) {
    b.run->inline_next_enqueue();  // whom the lane tells first acts on it before the other hears
    b.step();
  }
  REQUIRE(b.seen.tokens.at(1).size() == 30);
  REQUIRE(b.seen.cached.at(2) == 48);
}

TEST_CASE("a drained engine says so when the shards have been told of the last tokens") {
  bench b;
  b.admit(1, 4, 1);
  std::size_t tokens = 0;
  bool drained = false;
  caf::anon_send(b.links->scheduler, drain_scheduler{[&] {
                   b.run->run();
                   tokens = b.seen.tokens[1].size();
                   drained = true;
                 }});
  b.run->run();
  while (!b.queue->jobs.empty()) {
    b.run->inline_next_enqueue();
    b.step();
  }
  REQUIRE(drained);
  REQUIRE(tokens == 1);
}

TEST_CASE("a full queue answers overloaded and hurts nobody else") {
  planner_options options = planner_for(1, 512, 64);
  options.queue_sequences = 1;
  bench b(options);
  for (generation_id id = 1; id <= 3; ++id) b.admit(id, 4, 3);
  REQUIRE(b.seen.failures.size() == 1);
  REQUIRE(b.seen.failures.at(3).code == errc::overloaded);
  b.require_nothing_left();
  REQUIRE(b.seen.ends.size() == 2);
}

TEST_CASE("at sixteen streams the engine sends at most half a message a token") {
  bench b;
  for (generation_id id = 1; id <= 16; ++id) b.admit(id, 4, 40);
  const std::uint64_t before = b.metrics->messages;
  b.run_dry();
  REQUIRE(b.metrics->sampled_tokens == 16 * 40);
  CHECK(static_cast<double>(b.metrics->messages - before) / (16 * 40) <= 0.5);
}

TEST_CASE("a step that throws fails its sequences, and the next request is served") {
  bench b;
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

TEST_CASE("a probe is answered by the lane, after the steps before it") {
  bench b;
  b.admit(1, 4, 10);
  bool answered = false;
  caf::anon_send(b.links->scheduler, probe_engine{[&](const result<void>& healthy) { answered = static_cast<bool>(healthy); }});
  b.run->run();
  REQUIRE_FALSE(answered);
  b.run_dry();
  REQUIRE(answered);
}

TEST_CASE("drain refuses new sequences and reports when the old ones are done") {
  bench b;
  b.admit(1, 4, 10);
  bool drained = false;
  caf::anon_send(b.links->scheduler, drain_scheduler{[&] { drained = true; }});
  b.admit(2, 4, 10);
  REQUIRE(b.seen.failures.at(2).code == errc::shutting_down);
  REQUIRE_FALSE(drained);
  b.run_dry();
  REQUIRE(drained);
  REQUIRE(b.seen.tokens.at(1).size() == 10);
}

TEST_CASE("when an actor dies, what runs fails visibly, the engine is unhealthy, and later requests fail too") {
  bench b;
  b.admit(1, 4, 10);
  caf::anon_send_exit(b.links->kv_store, caf::exit_reason::kill);
  b.run->run();
  REQUIRE_FALSE(b.metrics->healthy);
  REQUIRE(b.seen.failures.at(1).code == errc::internal);
  b.admit(2, 4, 10);
  REQUIRE(b.seen.failures.at(2).code == errc::internal);
  std::string reason;
  caf::anon_send(b.links->scheduler, probe_engine{[&](const result<void>& healthy) { reason = healthy ? "none" : healthy.why().text; }});
  b.run_dry();
  CHECK(reason.find("kv_store") != std::string::npos);
}

TEST_CASE("when the scheduler dies the shards are told to end") {
  bench b;
  b.admit(1, 4, 10);
  caf::anon_send_exit(b.links->scheduler, caf::exit_reason::kill);
  b.run->run();
  REQUIRE(b.seen.stopped);
  REQUIRE_FALSE(b.metrics->healthy);
}

TEST_CASE("stop_engine ends every actor and reports once") {
  bench b;
  b.admit(1, 4, 10);
  int stopped = 0;
  caf::anon_send(b.supervisor, stop_engine{[&] { ++stopped; }});
  b.run->run();
  REQUIRE(stopped == 1);
  REQUIRE(b.seen.stopped);
  REQUIRE(b.metrics->healthy);
}

TEST_CASE("a step that hangs is given up: its engine fails visibly and says why") {
  bench b(planner_for(64, 512, 64), std::chrono::seconds(20));
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
  caf::anon_send(b.links->scheduler, probe_engine{[&](const result<void>& healthy) { reason = healthy ? "none" : healthy.why().text; }});
  b.run->run();
  CHECK(reason == b.lost[0].text);
  b.admit(3, 4, 10);
  CHECK(b.seen.failures.at(3).code == errc::internal);
}

TEST_CASE("the watchdog lets a busy engine be, and an idle one sleep") {
  bench b(planner_for(64, 512, 64), std::chrono::seconds(20));
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
  bench b;
  b.machine->lose = true;
  b.admit(1, 4, 10);
  b.run_dry();
  CHECK(b.lost.size() == 1);
  CHECK_FALSE(b.metrics->healthy);
  CHECK(b.seen.failures.at(1).code == errc::internal);
}
