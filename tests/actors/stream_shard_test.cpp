// A shard under random splits, credits, replays, cancels and sweeps; check() after every call.
#include <map>
#include <random>

#include "actors/byte_tokenizer.hpp"
#include "actors/stream/stream_shard.hpp"
#include "support/catch.hpp"

using namespace troupe;
using namespace troupe::actors;
using namespace std::chrono_literals;
using troupe::tests::recording_sink;

namespace {

clock::time_point at(std::chrono::milliseconds t) { return clock::time_point{} + 1h + t; }

struct bench {
  explicit bench(stream_limits limits = {}) : shard(tests::byte_tokenizer(), limits, counters) {}

  // Carries out what a call led to, and looks at the invariants.
  stream_outputs done(stream_outputs out) {
    for (const delivery& d : out.events) d.sink->on_event(d.what);
    for (const sequence_order& order : out.orders) orders.push_back(order);
    REQUIRE(shard.check() == "");
    return out;
  }
  std::shared_ptr<recording_sink> open(generation_id id, std::uint32_t credit, bool keep = false, request what = {}) {
    auto sink = std::make_shared<recording_sink>();
    stream_outputs out;
    shard.open({id, std::make_shared<request>(std::move(what)), nullptr, id, sink, credit, keep, at(0ms)}, at(0ms),
               out);
    done(out);
    return sink;
  }
  void admit(generation_id id) {
    stream_outputs out;
    shard.admitted(id, 5, at(1ms), out);
    done(out);
  }
  void token(generation_id id, std::int32_t what, sequence_end end = sequence_end::none,
             clock::time_point when = at(10ms)) {
    step_result step;
    step.tokens.push_back({id, 0, what, end, 0.0f, {}, {}});
    step.ended = when;
    stream_outputs out;
    shard.step(step, out);
    done(out);
  }
  void credit(generation_id id, std::uint64_t who, std::uint32_t events) {
    stream_outputs out;
    shard.add_credit(id, who, events, at(20ms), out);
    done(out);
  }
  std::shared_ptr<recording_sink> watch(generation_id id, std::uint64_t who, std::uint64_t offset,
                                        std::uint32_t credit) {
    auto sink = std::make_shared<recording_sink>();
    stream_outputs out;
    shard.subscribe(id, who, offset, sink, credit, at(20ms), out);
    done(out);
    return sink;
  }
  void leave(generation_id id, std::uint64_t who) {
    stream_outputs out;
    shard.unsubscribe(id, who, at(20ms), out);
    done(out);
  }
  bool cancel(generation_id id) {
    stream_outputs out;
    const bool found = shard.cancel(id, at(30ms), out);
    done(out);
    return found;
  }
  int ordered(sequence_order::kind what) const {
    return static_cast<int>(std::count_if(orders.begin(), orders.end(), [&](const auto& o) { return o.what == what; }));
  }

  std::shared_ptr<stream_counters> counters = std::make_shared<stream_counters>();
  stream_shard shard;
  std::vector<sequence_order> orders;
};

}  // namespace

TEST_CASE("every watcher reads the same text and one end, whatever the credits, offsets and token borders") {
  std::mt19937 random(6);
  const auto tokens = tests::byte_tokenizer();
  for (int round = 0; round < 400; ++round) {
    stream_limits limits;
    limits.delta_bytes = random() % 8;
    bench b(limits);
    request what;
    if (random() % 2) what.stop = {"ab", "STOP"};
    const auto first = b.open(7, random() % 4, true, what);
    b.admit(7);
    std::map<std::uint64_t, std::pair<std::shared_ptr<recording_sink>, std::uint64_t>> watchers{{7, {first, 0}}};
    const auto act = [&] {
      if (random() % 3 == 0)
        b.credit(7, random() % 8 == 0 ? 999 : watchers.begin()->first + random() % watchers.size(), random() % 3);
      if (random() % 12 == 0 && watchers.size() < 6) {
        const std::uint64_t offset = random() % (b.shard.find(7)->log().size() + 1);
        const std::uint64_t who = 7 + watchers.size();
        watchers[who] = {b.watch(7, who, offset, random() % 3), offset};
      }
    };
    for (unsigned n = random() % 60; n > 0; --n) {
      b.token(7, static_cast<std::int32_t>(random() % 2 ? 256 + random() % tests::long_tokens().size()
                                                        : random() % static_cast<unsigned>(tokens->size() - 1)));
      act();
    }
    b.token(7, tokens->size() - 1, random() % 2 ? sequence_end::eos : sequence_end::length);
    for (int n = 0; n < 10; ++n) act();
    const auto& log = b.shard.find(7)->log();
    for (auto& [who, watcher] : watchers) {
      b.credit(7, who, 100);
      REQUIRE(watcher.first->text() == log.text_from(watcher.second));
      REQUIRE(watcher.first->ends() == 1);
      REQUIRE(watcher.first->count(event::kind::started) == 1);
      REQUIRE(watcher.first->events.front().what == event::kind::started);
      std::uint64_t offset = watcher.second;
      for (const event& e : watcher.first->events) {
        REQUIRE(e.offset >= offset);
        offset = e.next_offset;
      }
      REQUIRE(offset == log.size());
    }
    REQUIRE(b.counters->subscribers == 0);
  }
}

TEST_CASE("who keeps up has an event for every token, with text or without") {
  bench b;
  const auto sink = b.open(1, 100);
  b.admit(1);
  const std::int32_t control = tests::byte_tokenizer()->size() - 1;
  const std::vector<std::int32_t> ids = {'a', 0xC3, 0xA9, control, 0xE2, 'b'};
  const std::vector<std::string> texts = {"a",
                                          "",
                                          "\xC3\xA9",
                                          "",
                                          "",
                                          "\xEF\xBF\xBD"
                                          "b"};
  for (std::size_t i = 0; i < ids.size(); ++i) {
    b.token(1, ids[i]);
    REQUIRE(sink->events.size() == i + 2);
    const event& e = sink->events.back();
    CHECK(e.what == event::kind::delta);
    CHECK(e.offset == i);
    CHECK(e.next_offset == i + 1);
    CHECK(e.text == texts[i]);
  }
}

TEST_CASE("without credit nothing comes, and later text is joined into one delta") {
  bench b;
  const auto sink = b.open(1, 1);
  b.admit(1);
  for (char c : std::string("hello")) b.token(1, c);
  CHECK(sink->events.size() == 1);
  b.credit(1, 1, 1);
  REQUIRE(sink->events.size() == 2);
  CHECK(sink->events[1].text == "hello");
  CHECK(sink->events[1].next_offset == 5);
  b.token(1, -1, sequence_end::eos);
  CHECK(sink->ends() == 0);
  b.credit(1, 1, 1);
  CHECK(sink->ends() == 1);
  CHECK(b.shard.size() == 0);
}

TEST_CASE("what waits for a watcher is bounded by its credit and by bytes, log-probabilities included") {
  stream_limits limits;
  limits.delta_bytes = 100;
  for (const bool with_logprobs : {false, true}) {
    bench b(limits);
    request what;
    if (with_logprobs) what.top_logprobs = 0;
    const auto sink = b.open(1, 1, true, what);
    b.admit(1);
    for (int i = 0; i < 1000; ++i) b.token(1, 'a' + i % 26);
    b.token(1, -1, sequence_end::eos);
    b.credit(1, 1, 3);
    REQUIRE(sink->events.size() == 4);
    for (std::size_t i = 1; i < 4; ++i) {
      CHECK(sink->events[i].text.size() ==
            (with_logprobs ? 1 : 100));  // each log-probability is written in 69 bytes or so
      CHECK(sink->events[i].logprobs.size() == (with_logprobs ? 1 : 0));
      CHECK(sink->events[i].offset == (i == 1 ? 0 : sink->events[i - 1].next_offset));
    }
    b.credit(1, 1, 2000);
    CHECK(sink->text() == b.shard.find(1)->log().text_from(0));
    CHECK(sink->ends() == 1);
  }
}

TEST_CASE("done carries usage, reason and times") {
  bench b;
  const auto sink = b.open(1, 100);
  b.admit(1);
  b.shard.prefill_started(1, at(4ms), 3);
  b.token(1, 'a', sequence_end::none, at(9ms));
  b.token(1, 'b', sequence_end::length, at(12ms));
  const event& last = sink->events.back();
  REQUIRE(last.what == event::kind::done);
  CHECK(last.reason == finish_reason::length);
  CHECK(last.usage.prompt_tokens == 5);
  CHECK(last.usage.cached_tokens == 3);
  CHECK(last.usage.completion_tokens == 2);
  CHECK(last.timing.queued_ms == Approx(4));
  CHECK(last.timing.first_token_ms == Approx(9));
  CHECK(last.timing.total_ms == Approx(12));
}

TEST_CASE("decoding pauses while every watcher lags and resumes when one catches up") {
  stream_limits limits;
  limits.lag_entries = 8;
  bench b(limits);
  b.open(1, 1);
  b.admit(1);
  for (int i = 0; i < 9; ++i) b.token(1, 'a');
  CHECK(b.ordered(sequence_order::kind::pause) == 1);
  b.token(1, 'a');
  CHECK(b.ordered(sequence_order::kind::pause) == 1);
  b.watch(1, 2, 0, 0);
  CHECK(b.ordered(sequence_order::kind::resume) == 0);
  b.credit(1, 1, 1);
  CHECK(b.ordered(sequence_order::kind::resume) == 1);
}

TEST_CASE("the last watcher's leaving cancels a generation, unless it is kept") {
  bench b;
  b.open(1, 9);
  b.open(2, 9, true);
  b.admit(1);
  b.admit(2);
  b.watch(1, 5, 0, 9);
  b.leave(1, 1);
  CHECK(b.orders.empty());
  b.leave(1, 5);
  b.leave(2, 2);
  CHECK(b.ordered(sequence_order::kind::end) == 1);
  CHECK(b.orders[0].id == 1);
  CHECK(b.shard.find(1) == nullptr);
  REQUIRE(b.shard.find(2) != nullptr);
  CHECK_FALSE(b.shard.find(2)->ended());
}

TEST_CASE("a generation cancelled before its admission is ended at the scheduler when it arrives there") {
  bench b;
  const auto sink = b.open(1, 9);
  CHECK(b.cancel(1));
  CHECK_FALSE(b.cancel(1));
  CHECK(sink->events.back().reason == finish_reason::cancelled);
  b.orders.clear();
  b.admit(1);
  CHECK(b.ordered(sequence_order::kind::end) == 1);
}

TEST_CASE("a kept generation can be read again until its time-to-live is over") {
  bench b;
  b.open(1, 99, true);
  b.admit(1);
  for (char c : std::string("abc")) b.token(1, c);
  b.token(1, -1, sequence_end::eos, at(100ms));
  CHECK(b.watch(1, 2, 1, 99)->text() == "bc");
  CHECK(b.watch(1, 3, 9, 99)->events[0].why.code == errc::invalid_argument);
  b.shard.sweep(at(100ms + 299s));
  CHECK(b.shard.size() == 1);
  b.shard.sweep(at(100ms + 300s));
  CHECK(b.shard.size() == 0);
  CHECK(b.watch(1, 4, 0, 99)->events[0].why.code == errc::not_found);
}

TEST_CASE("generations held are bounded: the oldest ended go first, and live ones are refused") {
  stream_limits limits;
  limits.generations = 3;
  limits.ended_kept = 2;
  bench b(limits);
  for (generation_id id = 1; id <= 9; ++id) {
    b.open(id, 9, true);
    b.token(id, -1, sequence_end::eos);
  }
  b.shard.sweep(at(50ms));
  CHECK(b.shard.size() == 2);
  CHECK(b.shard.find(9) != nullptr);
  CHECK(b.shard.find(7) == nullptr);
  for (generation_id id = 11; id <= 13; ++id) b.open(id, 9);
  CHECK(b.open(14, 9)->events[0].why.code == errc::overloaded);
}

TEST_CASE("a failure reaches every watcher once, and a stop fails what lives") {
  bench b;
  const auto one = b.open(1, 9);
  const auto two = b.watch(1, 2, 0, 9);
  stream_outputs out;
  b.shard.failed(1, {errc::overloaded, "full", {}}, at(1ms), out);
  b.shard.failed(1, {errc::overloaded, "full", {}}, at(1ms), out);
  b.done(out);
  CHECK(one->events.size() == 1);
  CHECK(two->events.size() == 1);
  const auto three = b.open(3, 9);
  out = {};
  b.shard.stop(at(2ms), out);
  b.done(out);
  CHECK(three->events.back().why.code == errc::shutting_down);
  CHECK(b.shard.size() == 0);
}

TEST_CASE("a stop tells watchers without credit too, and those who had not read all that they lost some") {
  bench b;
  const auto behind = b.open(1, 1), unpaid = b.open(2, 2, true);
  b.admit(1);
  b.admit(2);
  b.token(1, 'a');
  b.token(2, 'a');
  b.token(2, -1, sequence_end::eos);
  stream_outputs out;
  b.shard.stop(at(2ms), out);
  b.done(out);
  REQUIRE(behind->ends() == 1);
  CHECK(behind->events.back().why.code == errc::shutting_down);
  CHECK(behind->events.back().next_offset == 0);
  REQUIRE(unpaid->ends() == 1);
  CHECK(unpaid->events.back().what == event::kind::done);
  CHECK(unpaid->text() == "a");
}
