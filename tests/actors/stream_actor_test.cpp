// The stream and tokenizer shells on CAF's test scheduler, with a scheduler and a lane that are scripted here.
#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/scheduler/test_coordinator.hpp>
#include <caf/send.hpp>
#include <caf/typed_event_based_actor.hpp>

#include "actors/byte_tokenizer.hpp"
#include "actors/stream/stream_actor.hpp"
#include "actors/stream/stream_counters.hpp"
#include "actors/tokenizer/prompt_encoder.hpp"
#include "actors/tokenizer/tokenizer_actor.hpp"
#include "support/catch.hpp"

using namespace troupe;
using namespace troupe::actors;
using troupe::tests::recording_sink;

namespace {

struct seen {
  std::vector<admit_sequence> admitted;
  std::vector<generation_id> ended, paused, resumed;
};

// Writes down what it is told.
class scripted_scheduler : public scheduler_handle::base {
public:
  scripted_scheduler(caf::actor_config& config, seen& log) : scheduler_handle::base(config), log_(log) {}

protected:
  behavior_type make_behavior() override {
    return {
        [this](const admit_sequence& m) { log_.admitted.push_back(m); },
        [this](const end_sequence& m) { log_.ended.push_back(m.id); },
        [this](const pause_sequence& m) { log_.paused.push_back(m.id); },
        [this](const resume_sequence& m) { log_.resumed.push_back(m.id); },
        [](const step_done&) {},
        [](const blocks_granted&) {},
        [](const blocks_arrived&) {},
        [](const fail_sequences&) {},
        [](const probe_engine&) {},
        [](const check_steps&) {},
        [](const drain_scheduler&) {},
        [](const wire_engine&) {},
        [this](const stop_actor&) { quit(); },
    };
  }

private:
  seen& log_;
};

class throwing_sink : public event_sink {
public:
  void on_event(const event&) override { throw std::runtime_error("a bad sink"); }
};

class asking_sink : public event_sink {
public:
  explicit asking_sink(std::function<void()> at_end) : at_end_(std::move(at_end)) {}
  void on_event(const event& e) override {
    if (e.what == event::kind::done) at_end_();
  }

private:
  std::function<void()> at_end_;
};

struct test_config : caf::actor_system_config {
  test_config() { set("scheduler.policy", caf::atom("testing")); }
};

struct bench {
  bench() : system(config), counters(std::make_shared<stream_counters>()) {
    auto links = std::make_shared<engine_links>();
    links->scheduler = system.spawn<scripted_scheduler>(log);
    links->streams.push_back(spawn_stream(system, {0, tests::byte_tokenizer(), {}, counters, nullptr}));
    links->tokenizers.push_back(spawn_tokenizer(
        system, std::make_shared<prompt_encoder>(tests::byte_tokenizer(), models::chat_template::chatml(), 64)));
    stream = links->streams[0];
    scheduler = links->scheduler;
    tokenizer = links->tokenizers[0];
    send(stream, wire_engine{links});
    send(tokenizer, wire_engine{links});
  }
  ~bench() {
    send(stream, stop_actor{});
    send(tokenizer, stop_actor{});
    send(scheduler, stop_actor{});
  }
  template <class Handle, class Message>
  void send(const Handle& to, Message m) {
    caf::anon_send(to, std::move(m));
    dynamic_cast<caf::scheduler::test_coordinator&>(system.scheduler()).run();
  }
  void open(generation_id id, std::shared_ptr<event_sink> sink, std::string text,
            std::shared_ptr<const operator_chain> operators = {}) {
    auto what = std::make_shared<request>();
    what->prompt = std::move(text);
    send(stream, open_generation{id, what, id, std::move(sink), 100, false, clock::now(), std::move(operators)});
  }
  void token(generation_id id, std::int32_t token, sequence_end end = sequence_end::none) {
    auto step = std::make_shared<step_result>();
    step->tokens.push_back({id, 0, token, end, 0.0f, {}, {}});
    step->ended = clock::now();
    send(stream, step_tokens{step});
  }

  test_config config;
  caf::actor_system system;
  seen log;
  std::shared_ptr<stream_counters> counters;
  stream_handle stream;
  scheduler_handle scheduler;
  tokenizer_handle tokenizer;
};

struct throw_at_once {
  void operator()(token_window&) { throw std::runtime_error("a bad operator"); }
};

}  // namespace

TEST_CASE("a request goes through the tokenizer to the scheduler, and tokens come back as events") {
  bench b;
  const auto sink = std::make_shared<recording_sink>();
  b.open(8, sink, "hi");
  REQUIRE(b.log.admitted.size() == 1);
  CHECK(*b.log.admitted[0].prompt == std::vector<std::int32_t>{'h', 'i'});
  CHECK(b.log.admitted[0].terms->max_tokens == 62);
  b.send(b.stream, generation_admitted{8, 2, 62});
  b.token(8, 'o');
  b.token(8, 'k');
  b.token(8, -1, sequence_end::eos);
  CHECK(sink->text() == "ok");
  CHECK(sink->events.front().usage.prompt_tokens == 2);
  CHECK(sink->events.back().what == event::kind::done);
  CHECK(b.log.ended.empty());
}

TEST_CASE("what the encoder refuses fails the generation") {
  bench b;
  const auto sink = std::make_shared<recording_sink>();
  b.open(8, sink, std::string(100, 'x'));
  REQUIRE(sink->events.size() == 1);
  CHECK(sink->events[0].why.code == errc::context_length_exceeded);
  CHECK(b.log.admitted.empty());
}

TEST_CASE("a cancel ends the sequence at the scheduler and answers whether it was there") {
  bench b;
  const auto sink = std::make_shared<recording_sink>();
  b.open(8, sink, "hi");
  b.send(b.stream, generation_admitted{8, 2, 62});
  std::vector<bool> found;
  b.send(b.stream, cancel_generation{8, [&](bool f) { found.push_back(f); }});
  b.send(b.stream, cancel_generation{8, [&](bool f) { found.push_back(f); }});
  CHECK(found == std::vector<bool>{true, false});
  CHECK(b.log.ended == std::vector<generation_id>{8});
  CHECK(sink->events.back().reason == finish_reason::cancelled);
}

TEST_CASE("the scheduler is told that a sequence is not wanted any more before its readers hear of the end") {
  bench b;
  const auto& coordinator = dynamic_cast<caf::scheduler::test_coordinator&>(b.system.scheduler());
  bool told = false;
  b.open(8, std::make_shared<asking_sink>([&] { told = coordinator.has_job(); }), "hi");
  b.send(b.stream, generation_admitted{8, 2, 62});
  b.send(b.stream, cancel_generation{8, {}});
  CHECK(told);
  CHECK(b.log.ended == std::vector<generation_id>{8});
}

TEST_CASE("a sink that throws loses its subscription, and others go on") {
  bench b;
  const auto sink = std::make_shared<recording_sink>();
  b.open(8, std::make_shared<throwing_sink>(), "hi");
  b.open(9, sink, "hi");
  b.send(b.stream, generation_admitted{8, 2, 62});
  b.send(b.stream, generation_admitted{9, 2, 62});
  CHECK(b.log.ended == std::vector<generation_id>{8});
  b.token(9, 'y', sequence_end::length);
  CHECK(sink->text() == "y");
}

TEST_CASE("an operator that throws fails its generation, and others go on") {
  bench b;
  const auto bad = std::make_shared<recording_sink>(), good = std::make_shared<recording_sink>();
  b.open(8, bad, "hi", std::make_shared<operator_chain>(operator_chain{}.add(throw_at_once{})));
  b.open(9, good, "hi");
  b.token(8, 'y');
  b.token(9, 'y', sequence_end::length);
  CHECK(bad->events.back().what == event::kind::failed);
  CHECK(good->text() == "y");
  CHECK(b.log.ended == std::vector<generation_id>{8});
}

TEST_CASE("a stop fails what is open, once") {
  const auto sink = std::make_shared<recording_sink>();
  {
    bench b;
    b.open(8, sink, "hi");
  }
  REQUIRE(sink->ends() == 1);
  CHECK(sink->events.back().why.code == errc::shutting_down);
}
