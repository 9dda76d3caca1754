// Scheduler, KV store, lanes and supervisor as actors, on CAF's test scheduler: no thread, no clock, a scripted lane,
// and a stream shard that writes down what it is told.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include <caf/all.hpp>
#include <caf/scheduler/test_coordinator.hpp>

#include "actors/kv_store/kv_store_actor.hpp"
#include "actors/lane/lane_actor.hpp"
#include "actors/metrics.hpp"
#include "actors/scheduler/scheduler_actor.hpp"
#include "actors/supervisor/supervisor_actor.hpp"
#include "scripted_lane.hpp"
#include "support/catch.hpp"
#include "support/planner_set_up.hpp"

namespace troupe::actors {

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

struct actor_bench {
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

  explicit actor_bench(planner_options planner = planner_for(64, 512, 64), clock::duration patience = {}) {
    config.set("scheduler.policy", caf::atom("testing"));
    system = std::make_unique<caf::actor_system>(config);
    run = &dynamic_cast<caf::scheduler::test_coordinator&>(system->scheduler());
    const auto time = [this] { return now; };
    const lane_setup setup{queue, machine, time, metrics};
    auto made = std::make_shared<engine_links>();
    made->streams = {system->spawn<noting_stream>(seen)};
    made->kv_store = spawn_kv_store(*system, planner.total_blocks, planner.total_blocks, metrics);
    made->prefill = spawn_lane_actor(*system, lane_kind::prefill, setup);
    made->decode = spawn_lane_actor(*system, lane_kind::decode, setup);
    made->scheduler =
        spawn_scheduler(*system, {planner, time, metrics, patience, [this](const error& why) { lost.push_back(why); }});
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
  ~actor_bench() {
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
    caf::anon_send(links->scheduler,
                   admit_sequence{terms, std::make_shared<const std::vector<std::int32_t>>(std::move(prompt)), 0});
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

}  // namespace troupe::actors
