// The runtime as a front end sees it: ids, several watchers, replay, keep, health and metrics, with a tiny model.
#include <condition_variable>
#include <future>
#include <map>
#include <mutex>
#include <sstream>

#include <troupe/troupe.hpp>

#include "support/catch.hpp"
#include "support/tiny_model.hpp"

using namespace troupe;

namespace {

// Collects events; wait() returns when the last one is there.
class waiting_sink : public event_sink {
public:
  void on_event(const event& e) override {
    const std::lock_guard lock(mutex_);
    events_.push_back(e);
    changed_.notify_all();
  }
  std::vector<event> wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] {
      return !events_.empty() &&
             (events_.back().what == event::kind::done || events_.back().what == event::kind::failed);
    });
    return events_;
  }
  std::string text() {
    std::string all;
    for (const event& e : wait()) all += e.text;
    return all;
  }

private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<event> events_;
};

struct served {
  explicit served(std::int32_t at_once = 64) : file(".gguf"), owner(options(at_once)) {
    REQUIRE(test::write_tiny_model(file.string()));
    name = owner.load(file.string()).card().name;
  }
  static runtime_options options(std::int32_t at_once) {
    runtime_options o;
    o.max_sequences = at_once;
    o.threads = 1;
    o.kv_bytes = 16 << 20;
    return o;
  }
  static request question(std::int32_t tokens) {
    request what;
    what.prompt = chat_prompt{{"user", "hi"}};
    what.max_tokens = tokens;
    what.how.seed = 3;
    return what;
  }
  bool cancel(generation_id id) {
    std::promise<bool> found;
    owner.as_service().cancel(id, [&](bool f) { found.set_value(f); });
    return found.get_future().get();
  }
  test::scratch_path file;
  runtime owner;
  std::string name;
};

}  // namespace

TEST_CASE("a kept generation is watched from any offset, by several, also after its end") {
  served s;
  auto& service = s.owner.as_service();
  const auto first = std::make_shared<waiting_sink>(), live = std::make_shared<waiting_sink>(),
             late = std::make_shared<waiting_sink>();
  const auto opened = service.submit("", s.question(50), first, 1000, true);
  REQUIRE(opened);
  service.subscribe(opened->generation, 0, live, 1000);
  const std::string text = first->text();
  CHECK(live->text() == text);
  CHECK(first->wait().back().next_offset == 50);
  service.subscribe(opened->generation, 50, late, 1000);
  CHECK(late->text().empty());

  // From each border of a delta, the rest is the rest.
  std::string before;
  for (const event& e : first->wait()) {
    before += e.text;
    const auto rest = std::make_shared<waiting_sink>();
    service.subscribe(opened->generation, e.next_offset, rest, 1000);
    CHECK(before + rest->text() == text);
  }
  CHECK_FALSE(s.cancel(opened->generation));
}

TEST_CASE("unknown models, generations and offsets are told apart") {
  served s;
  auto& service = s.owner.as_service();
  CHECK(service.submit("no-such", s.question(1), std::make_shared<waiting_sink>(), 1, false).why().code ==
        errc::not_found);
  request bad = s.question(1);
  bad.how.top_p = 0;
  CHECK(service.submit("", bad, std::make_shared<waiting_sink>(), 1, false).why().param == "top_p");
  const auto nobody = std::make_shared<waiting_sink>();
  service.subscribe(12345, 0, nobody, 10);
  CHECK(nobody->wait().back().why.code == errc::not_found);
  service.subscribe(~generation_id{0}, 0, nobody, 10);
  CHECK_FALSE(s.cancel(999));
}

TEST_CASE("a cancel by id ends a generation for all its watchers, and ids do not repeat") {
  served s(1);
  auto& service = s.owner.as_service();
  for (int before = 0; before < 16; ++before)  // it waits behind these
    REQUIRE(service.submit("", s.question(400), std::make_shared<waiting_sink>(), 1000, true));
  const auto one = std::make_shared<waiting_sink>(), two = std::make_shared<waiting_sink>();
  const auto opened = service.submit(s.name, s.question(400), one, 1000, false);
  REQUIRE(opened);
  service.subscribe(opened->generation, 0, two, 1000);
  CHECK(s.cancel(opened->generation));
  CHECK(one->wait().back().reason == finish_reason::cancelled);
  CHECK(two->wait().back().what != event::kind::delta);
  const auto again = service.submit("", s.question(1), std::make_shared<waiting_sink>(), 10, false);
  CHECK(again->generation != opened->generation);
  CHECK(again->subscription != opened->subscription);
}

TEST_CASE("health answers, models are listed, and metrics are well-formed lines") {
  served s;
  auto& service = s.owner.as_service();
  std::promise<bool> healthy;
  service.check_health([&](result<void> ok) { healthy.set_value(ok.ok()); });
  CHECK(healthy.get_future().get());

  REQUIRE(service.models().size() == 1);
  CHECK(service.models()[0].context_length == 512);
  CHECK(service.models()[0].vocabulary == test::tiny_vocabulary_size);
  CHECK(s.owner.try_load(s.file.string()).why().code == errc::invalid_argument);

  const auto sink = std::make_shared<waiting_sink>();
  REQUIRE(service.submit("", s.question(20), sink, 1000, false));
  sink->wait();
  const std::string text = service.metrics_text();
  CHECK(text.find("troupe_generated_tokens_total{model=\"" + s.name + "\"} 20\n") != std::string::npos);
  CHECK(text.find("troupe_time_to_first_token_seconds_count{model=\"" + s.name + "\"} 1\n") != std::string::npos);
  CHECK(text.find("troupe_inter_token_seconds_count{model=\"" + s.name + "\"} 19\n") != std::string::npos);
  CHECK(text.back() == '\n');
}

TEST_CASE("with two models a metric is named once and has a line for each, whichever part counts it") {
  served s;
  test::scratch_path other(".gguf");
  REQUIRE(test::write_tiny_model(other.string()));
  REQUIRE(s.owner.try_load(other.string()).ok());
  std::istringstream lines(s.owner.as_service().metrics_text());
  std::map<std::string, int> heads, samples;
  for (std::string line; std::getline(lines, line);)
    ++(line.starts_with("# TYPE ") ? heads[line.substr(7, line.find(' ', 7) - 7)]
                                   : samples[line.substr(0, line.find('{'))]);
  CHECK(heads.size() > 30);
  for (const auto& [name, times] : heads) {
    CAPTURE(name);
    CHECK(times == 1);
    CHECK(samples[name.ends_with("_seconds") ? name + "_count" : name] == 2);
  }
}
