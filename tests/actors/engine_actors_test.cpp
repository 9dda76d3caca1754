// The life of requests through the engine's actors, a message at a time.
#include "actor_bench.hpp"

using namespace troupe;
using namespace troupe::actors;

TEST_CASE("a request is admitted, started, decoded to its length, and leaves nothing behind") {
  actor_bench b;
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
  actor_bench b;
  b.admit(1, 4, 50);
  b.step();
  REQUIRE(b.queue->jobs.size() == 2);
  b.step();
  REQUIRE(b.queue->jobs.size() == 2);
}

TEST_CASE("a cancel takes effect at every stage: queued, in prefill, in decode with steps in flight") {
  actor_bench b(planner_for(1, 32, 64));
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
  actor_bench b(options);
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
  actor_bench b(options);
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
  actor_bench b;
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
  actor_bench b(options);
  for (generation_id id = 1; id <= 3; ++id) b.admit(id, 4, 3);
  REQUIRE(b.seen.failures.size() == 1);
  REQUIRE(b.seen.failures.at(3).code == errc::overloaded);
  b.require_nothing_left();
  REQUIRE(b.seen.ends.size() == 2);
}

TEST_CASE("at sixteen streams the engine sends at most half a message a token") {
  actor_bench b;
  for (generation_id id = 1; id <= 16; ++id) b.admit(id, 4, 40);
  const std::uint64_t before = b.metrics->messages;
  b.run_dry();
  REQUIRE(b.metrics->sampled_tokens == 16 * 40);
  CHECK(static_cast<double>(b.metrics->messages - before) / (16 * 40) <= 0.5);
}

TEST_CASE("a probe is answered by the lane, after the steps before it") {
  actor_bench b;
  b.admit(1, 4, 10);
  bool answered = false;
  caf::anon_send(b.links->scheduler,
                 probe_engine{[&](const result<void>& healthy) { answered = static_cast<bool>(healthy); }});
  b.run->run();
  REQUIRE_FALSE(answered);
  b.run_dry();
  REQUIRE(answered);
}

TEST_CASE("drain refuses new sequences and reports when the old ones are done") {
  actor_bench b;
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
