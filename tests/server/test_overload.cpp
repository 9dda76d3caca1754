// Too many from one address, too little memory, faults of our own, peers that are gone without a word. Rows of the
// catalogue of bad inputs stand beside each.
#include "support/catch.hpp"

#include <atomic>

#include "server/address_shares.hpp"
#include "server/memory_watch.hpp"
#include "server_fixture.hpp"

using namespace troupe;
using namespace troupe::server;

namespace {

constexpr std::uint64_t mebibyte = 1 << 20;
const std::string ask_a = R"({"type":"generate","id":"a","messages":[{"role":"user","content":"hi"}]})";
const std::string ask_b = R"({"type":"generate","id":"b","messages":[{"role":"user","content":"hi"}]})";

/// The server as others see it now.
std::string figures(const running_server& s) { return client(s.port()).call("GET", "/metrics").body; }

}  // namespace

TEST_CASE("places are counted for each address, and come back (row 21)") {
  const client_address one{1}, other{2}, narrow{7}, wide{7, true};
  address_shares shares(2);
  auto a = shares.take(one), b = shares.take(one);
  CHECK(a);
  CHECK(b);
  CHECK_FALSE(shares.take(one));
  CHECK(shares.take(other));
  auto moved = std::move(a);
  CHECK_FALSE(shares.take(one));
  moved = {};
  CHECK(shares.take(one));
  auto c = shares.take(narrow), d = shares.take(narrow);
  CHECK(shares.take(wide));
}

TEST_CASE("without a limit strangers have 256 places, this machine any number (row 21)") {
  address_shares shares({});
  std::vector<address_shares::place> held;
  for (std::size_t i = 0; i < address_shares::usual_limit; ++i) held.push_back(shares.take({1}));
  CHECK(held.back());
  CHECK_FALSE(shares.take({1}));
  for (std::size_t i = 0; i < 2 * address_shares::usual_limit; ++i) held.push_back(shares.take({2, false, true}));
  CHECK(held.back());
}

TEST_CASE("who connects too often hears 429 without asking, and is served again when one has left (row 21)") {
  server_options options;
  options.max_per_address = 2;
  running_server s(options);
  auto first = std::make_unique<client>(s.port());
  client second(s.port());
  CHECK(first->call("GET", "/health").status == 200);
  CHECK(second.call("GET", "/health").status == 200);
  for (int i = 0; i < 3; ++i) {
    client third(s.port());
    const auto told = third.answer();
    CHECK(told.status == 429);
    CHECK(told.fields.at("retry-after") == "1");
    CHECK(has(told.body, R"("code":"overloaded")"));
    CHECK(third.closed());
  }
  CHECK(second.call("GET", "/health").status == 200);
  first.reset();
  while (!has(second.call("GET", "/metrics").body, "troupe_http_connections 1\n")) {
  }
  CHECK(client(s.port()).call("GET", "/health").status == 200);
}

TEST_CASE("a socket's generations are places of its address too (row 21)") {
  server_options options;
  options.max_per_address = 2;
  running_server s(options);
  client c(s.port());
  c.handshake();
  c.frame(ask_a);
  const auto id = s.engine.wait_for(1);
  c.frame(ask_b);
  CHECK(has(c.next_frame(), R"("code":"overloaded")"));
  s.engine.finish(id);
  std::string all;
  while (!has(all, R"("type":"done")")) all += c.next_frame();
  c.frame(ask_b);
  s.engine.finish(s.engine.wait_for(2));
  while (!has(all, R"("id":"b")")) all += c.next_frame();
}

TEST_CASE("a generation that outlives its connection keeps a place until its end (row 21)") {
  server_options options;
  options.max_per_address = 2;
  running_server s(options);
  client c(s.port());
  const auto opened = [&](std::uint64_t n) {
    c.ask("POST", "/v1/generations", R"({"prompt":"x"})");
    const auto id = s.engine.wait_for(n);
    s.engine.start(id);
    CHECK(c.answer().status == 201);
    return id;
  };
  const auto first = opened(1);
  s.engine.token(first, "on its own");
  CHECK(c.call("POST", "/v1/generations", R"({"prompt":"x"})").status == 429);
  CHECK(s.engine.submitted() == 1);
  s.engine.finish(first);
  s.engine.finish(opened(2));
  CHECK(c.call("POST", "/v1/generations", R"({"prompt":7})").status == 400);
  s.engine.finish(opened(3));
}

TEST_CASE("memory is low under a twentieth or 256 MiB, gone under a fiftieth or 64 MiB (row 22)") {
  const auto level = [](std::uint64_t total, std::uint64_t available, std::uint64_t group = 0) {
    return level_of({total * mebibyte, available * mebibyte, group * mebibyte});
  };
  CHECK(level(65536, 257) == memory_level::enough);
  CHECK(level(65536, 255) == memory_level::low);
  CHECK(level(65536, 63) == memory_level::gone);
  CHECK(level(1000, 51) == memory_level::enough);
  CHECK(level(1000, 49) == memory_level::low);
  CHECK(level(1000, 19) == memory_level::gone);
  CHECK(level(65536, 51, 1000) == memory_level::enough);
  CHECK(level(65536, 49, 1000) == memory_level::low);
  CHECK(level(0, 0) == memory_level::enough);
}

TEST_CASE("what memory there is, is looked up ten times a second at most (row 22)") {
  int looks = 0;
  memory_watch watch([&] { return ++looks, base::memory_limits{1000 * mebibyte, 10 * mebibyte, 0}; });
  const base::time_point start{std::chrono::hours(1)};
  CHECK(watch.now(start) == memory_level::gone);
  CHECK(watch.now(start + std::chrono::milliseconds(99)) == memory_level::gone);
  CHECK(looks == 1);
  CHECK(watch.now(start + std::chrono::milliseconds(100)) == memory_level::gone);
  CHECK(looks == 2);
}

TEST_CASE("with hardly any memory left new requests are refused and running ones end (row 22)") {
  std::atomic<std::uint64_t> left{1000};
  server_options options;
  options.read_memory = [&] { return base::memory_limits{1000 * mebibyte, left * mebibyte, 0}; };
  running_server s(options);
  client running(s.port()), socket(s.port());
  socket.handshake();
  running.ask("POST", "/v1/chat/completions", hello_with(R"("stream":true)"));
  const auto id = s.engine.wait_for(1);
  left = 30;
  http_answer told;
  do told = client(s.port()).call("POST", "/v1/chat/completions", "{}");
  while (told.status != 503);  // the level is looked up every 100 ms
  CHECK(told.fields.at("retry-after") == "1");
  CHECK(has(told.body, R"("code":"out_of_memory")"));
  CHECK(client(s.port()).call("GET", "/health").status == 200);
  socket.frame(ask_a);
  CHECK(has(socket.next_frame(), R"("code":"out_of_memory")"));
  s.engine.token(id, "still here");
  s.engine.finish(id);
  CHECK(has(running.answer().body, "still here"));
  left = 1000;
  do told = client(s.port()).call("POST", "/v1/chat/completions", "{}");
  while (told.status == 503);
  CHECK(told.status == 400);
}

TEST_CASE("with no memory left connections wait until there is some (row 22)") {
  std::atomic<std::uint64_t> left{1000};
  server_options options;
  options.read_memory = [&] { return base::memory_limits{1000 * mebibyte, left * mebibyte, 0}; };
  running_server s(options);
  client observer(s.port()), known(s.port());
  const auto connected = [&](int n) {
    return has(observer.call("GET", "/metrics").body, "troupe_http_connections " + std::to_string(n) + "\n");
  };
  CHECK(known.call("GET", "/health").status == 200);
  left = 1;
  while (known.call("POST", "/v1/chat/completions", "{}").status != 503) {
  }
  known.leave();
  client next(s.port());  // takes the accept that was pending
  CHECK(next.call("GET", "/health").status == 200);
  while (!connected(2)) {
  }
  client waiting(s.port());
  waiting.ask("GET", "/health");
  for (int i = 0; i < 200; ++i) REQUIRE(connected(2));
  left = 1000;
  CHECK(waiting.answer().status == 200);
  CHECK(connected(3));
}

TEST_CASE("a fault of our own is 500 for its request and 1011 for its socket, and nobody else's (row 36)") {
  running_server s;
  client c(s.port()), other(s.port()), plain(s.port());
  c.handshake();
  other.handshake();
  other.frame(ask_a);
  const auto id = s.engine.wait_for(1);
  s.engine.broken = true;
  c.frame(ask_a);
  CHECK(c.next_frame() == "close 1011");
  c.frame("\x03\xf3", 8);
  CHECK(c.closed());
  const auto failed = plain.call("POST", "/v1/chat/completions", hello);
  CHECK(failed.status == 500);
  CHECK(has(failed.body, R"("code":"internal")"));
  s.engine.broken = false;
  s.engine.finish(id);
  std::string all;
  while (!has(all, R"("type":"done")")) all += other.next_frame();
  CHECK(has(figures(s), "troupe_http_faults_total 2\n"));
  CHECK(client(s.port()).call("GET", "/health").status == 200);
}

TEST_CASE("a peer that answers no ping is gone, with all that ran for it; one that does stays (row 36)") {
  server_options options;
  options.timeouts.idle = std::chrono::milliseconds(1000);
  running_server s(options);
  client dead(s.port());
  dead.handshake();
  dead.frame(ask_a);
  const auto id = s.engine.wait_for(1);
  CHECK(dead.exactly(2) == std::string("\x89\x00", 2));  // asked, and not answered
  s.engine.wait_until_over(id);
  CHECK(s.engine.reason(id) == finish_reason::cancelled);
  CHECK(dead.closed());

  client alive(s.port());
  alive.handshake();
  for (int pings = 0; pings < 3; ++pings) {  // three halves of the time after which silence ends it
    INFO("ping " << pings);
    CHECK(alive.exactly(2) == std::string("\x89\x00", 2));
    alive.frame("", 10);
  }
  alive.frame("{}");
  CHECK(has(alive.next_frame(), R"("type":"error")"));
}
