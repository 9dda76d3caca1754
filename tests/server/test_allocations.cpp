// Memory that cannot be had, at each allocation of a request's life in turn; and how much a body may take. Rows of the
// catalogue of bad inputs stand beside each.
#include "support/catch.hpp"

#include <array>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "server/chat_request.hpp"
#include "server_fixture.hpp"
#include "support/counted_heap.hpp"

using namespace troupe;
using namespace troupe::server;

namespace {

/// Runs `attempt` with its first allocation failing, its second, and so on until none is left to fail.
template <class Attempt>
std::uint64_t for_each_allocation(Attempt attempt) {
  for (std::uint64_t n = 1;; ++n) {
    INFO("allocation " << n);
    if (!attempt(n)) return n - 1;
    REQUIRE(n < 20'000);
  }
}

/// A service that holds nothing but sinks and answers each request with three words, on a thread of its own.
class talker final : public service {
public:
  talker() : thread_([this](std::stop_token stop) { talk(stop); }) {}

  std::vector<model_card> models() const override { return {{"small", 1, 8192, 100}}; }
  result<submission> submit(const std::string&, request what, std::shared_ptr<event_sink> sink, std::uint32_t,
                            bool) override {
    const std::scoped_lock lock(guard_);
    for (std::size_t i = 0; i < places_.size(); ++i) {
      if (places_[i].sink) continue;
      places_[i] = {std::move(sink), std::move(what), false};
      changed_.notify_all();
      return submission{i + 1, i + 1};
    }
    return error{errc::overloaded, "Full.", {}};
  }
  subscription_id subscribe(generation_id, std::uint64_t, std::shared_ptr<event_sink>, std::uint32_t) override {
    return 0;
  }
  void unsubscribe(generation_id, subscription_id who) override {
    const std::scoped_lock lock(guard_);
    places_.at(who - 1) = {};
    changed_.notify_all();
  }
  void add_credit(generation_id, subscription_id, std::uint32_t) override {}
  void cancel(generation_id, std::function<void(bool)>) override {}
  void check_health(std::function<void(result<void>)> answer) override { answer(result<void>()); }
  std::string metrics_text() const override { return ""; }

  bool wait_until_nobody_listens() {
    std::unique_lock lock(guard_);
    return changed_.wait_for(lock, std::chrono::seconds(20), [&] {
      return std::none_of(places_.begin(), places_.end(), [](const place& p) { return p.sink != nullptr; });
    });
  }
  bool has_thrown() const { return thrown_; }

private:
  struct place {
    std::shared_ptr<event_sink> sink;
    request asked;
    bool told = false;
  };

  void talk(std::stop_token stop) {
    std::stop_callback wake(stop, [this] { changed_.notify_all(); });
    std::unique_lock lock(guard_);
    while (true) {
      auto next = places_.end();
      changed_.wait(lock, [&] {
        next = std::find_if(places_.begin(), places_.end(), [](const place& p) { return p.sink && !p.told; });
        return next != places_.end() || stop.stop_requested();
      });
      if (stop.stop_requested()) return;
      next->told = true;
      const auto sink = next->sink;
      const auto id = static_cast<generation_id>(next - places_.begin() + 1);
      lock.unlock();
      tell(*sink, id);
      lock.lock();
      if (next->sink == sink) *next = {};
      changed_.notify_all();
    }
  }

  void tell(event_sink& sink, generation_id id) {
    try {
      event e;
      e.what = event::kind::started;
      e.generation = id;
      sink.on_event(e);
      for (const char* word : {"one ", "two ", "three"}) {
        {
          const test::spared mine;
          e.what = event::kind::delta;
          e.text = word;
          e.offset = e.next_offset++;
        }
        sink.on_event(e);
      }
      e.what = event::kind::done;
      sink.on_event(e);
    } catch (const std::exception&) {
      thrown_ = true;  // into an engine's actor
    }
  }

  std::mutex guard_;
  std::condition_variable changed_;
  std::array<place, 8> places_;
  std::atomic<bool> thrown_{false};
  std::jthread thread_;
};

struct talking_server {
  talking_server() {
    server_options options;
    options.port = 0;
    // Where the end of an operation is lost inside the library, the time limits end what waits for it.
    options.timeouts.close = std::chrono::milliseconds(50);
    options.timeouts.stall = std::chrono::milliseconds(1000);
    options.timeouts.idle = options.timeouts.header = std::chrono::milliseconds(2000);
    server = http_server::start(engine, options).value_or_throw();
  }
  talker engine;
  std::unique_ptr<http_server> server;
};

/// Everything up to the connection's end, to `last`, or to the end of an error.
std::string heard(client& c, const std::string& last) {
  std::string all;
  try {
    while (!has(all, last) && !has(all, "}}")) all += c.exactly(1);
  } catch (const std::runtime_error& why) {
    INFO(all);
    CHECK(std::string(why.what()) == "the server closed");
  }
  return all;
}

/// What a client says and hears, whatever fails meanwhile: `good` is in a whole answer, `last` at its end.
void check_each_failure(const std::function<void(client&)>& say, const std::string& good, const std::string& last) {
  talking_server s;
  const test::spared mine;
  std::size_t whole = 0, refused = 0, cut = 0;
  const auto tried = for_each_allocation([&](std::uint64_t n) {
    test::fail_allocation(n);
    bool failed = false;
    {
      client c(s.server->port());
      std::string all;
      try {
        say(c);
        all = heard(c, last);
      } catch (const std::runtime_error&) {
      }
      failed = test::end_failing();
      if (has(all, good)) ++whole;
      else if (has(all, R"("code":"internal")") || has(all, R"("code":"out_of_memory")")) ++refused;
      else ++cut;
      INFO(all);
      if (!failed) CHECK(has(all, good));
    }
    REQUIRE_FALSE(s.engine.has_thrown());
    REQUIRE(s.engine.wait_until_nobody_listens());
    std::string figures;
    do figures = client(s.server->port()).call("GET", "/metrics").body;
    while (!has(figures, "troupe_http_connections 1\n") || !has(figures, "troupe_websockets 0\n"));
    return failed;
  });
  INFO(tried << " allocations: " << whole << " whole, " << refused << " refused, " << cut << " cut");
  CHECK(tried > 10);
  CHECK(refused > 0);
}

void check_request_path(const std::function<void(client&)>& say, const std::string& good, const std::string& last) {
  check_each_failure(say, good, last);
  const auto before = test::heap_held();  // libraries have made what they make once
  check_each_failure(say, good, last);
  CHECK(test::heap_held() == before);
}

}  // namespace

TEST_CASE(
    "reading a request with any allocation failing ends in a value, an error or bad_alloc, and loses nothing (row "
    "95)") {
  const std::string chat =
      R"({"model":"m","messages":[{"role":"system","content":"be brief"},{"role":"user","content":[{"type":"text","text":"a long enough text of a user"}]}],)"
      R"("stop":["a stop that is no short string","y"],"logit_bias":{"5":-100},"metadata":{"a":"b"},"user":"somebody with a rather long name","seed":7})";
  const std::string frame =
      R"({"type":"generate","id":"a name that is longer than sixteen bytes","prompt":[1,2,3],"temperature":"hot"})";
  CHECK(
      parse_chat(chat).ok());  // the library chooses its implementation at its first use: a server does so at its start
  const auto fails = [&](std::uint64_t n, auto read) {
    bool good = false;
    const auto before = test::heap_held();
    test::fail_allocation(n);
    try {
      good = read();
    } catch (const std::bad_alloc&) {
    }
    const bool failed = test::end_failing();
    const auto after = test::heap_held();
    CHECK((good || failed));
    REQUIRE(after == before);
    return failed;
  };
  const auto chat_read = [&] {
    const auto read = parse_chat(chat);
    return read.ok() || read.why().code == errc::out_of_memory;
  };
  CHECK(for_each_allocation([&](std::uint64_t n) { return fails(n, chat_read); }) > 10);
  CHECK(for_each_allocation([&](std::uint64_t n) {
          return fails(n, [&] { return parse_completion(R"({"prompt":"once upon a time there was"})").ok(); });
        }) > 3);
  CHECK(for_each_allocation([&](std::uint64_t n) {
          return fails(n, [&] { return parse_client_message(frame).wrong.param == "temperature"; });
        }) > 3);
}

TEST_CASE("a whole answer with any allocation failing: 200, an error or the end, and nothing is left behind (row 95)") {
  check_request_path([](client& c) { c.ask("POST", "/v1/chat/completions", hello); }, R"("content":"one two three")",
                     R"("total_tokens")");
}

TEST_CASE("a streamed answer with any allocation failing ends, and never as a whole one with a hole (row 95)") {
  check_request_path([](client& c) { c.ask("POST", "/v1/chat/completions", hello_with(R"("stream":true)")); },
                     "data: [DONE]", "data: [DONE]");
}

TEST_CASE("a WebSocket with any allocation failing ends, and nothing is left behind (row 95)") {
  check_request_path(
      [](client& c) {
        if (c.handshake().status == 101) c.frame(R"({"type":"generate","id":"a","prompt":"x"})");
      },
      R"("type":"done")", R"("type":"done")");
}

TEST_CASE("a body in a million chunks of a byte takes its size in memory (row 6)") {
  constexpr std::size_t size = 1 << 20;
  server_options options;
  options.max_body = size;
  running_server s(options);
  const std::string start = R"({"prompt":")", end = R"("})";
  const std::string text(size - start.size() - end.size(), 'x');
  std::string wire;
  for (const char byte : start + text + end) wire.append("1\r\n").append(1, byte).append("\r\n");
  client c(s.port());
  c.send(
      "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: "
      "chunked\r\n\r\n");
  const auto before = test::heap_held();
  test::reset_heap_peak();
  c.send(wire);
  client observer(s.port());
  const auto received = [&] {
    const auto figures = observer.call("GET", "/metrics").body;
    const std::string name = "\ntroupe_http_received_bytes_total ";
    return std::stoull(figures.substr(figures.find(name) + name.size()));
  };
  while (received() < wire.size()) {
  }
  CHECK(test::heap_peak() - before < size + 128 * 1024);  // the buffers of both connections among it
  c.send("0\r\n\r\n");
  const auto id = s.engine.wait_for(1);
  CHECK(std::get<text_prompt>(s.engine.asked(id).prompt) == text);
  s.engine.finish(id);
  CHECK(c.answer().status == 200);
}
