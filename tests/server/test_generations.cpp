// Generations that outlive their watchers.
#include "support/catch.hpp"

#include "server_fixture.hpp"

using namespace troupe;
using namespace troupe::server;

namespace {

std::string open(running_server& s, client& c) {
  c.ask("POST", "/v1/generations", R"({"prompt":"once"})");
  s.engine.start(s.engine.wait_for(1));
  auto answer = c.answer();
  CHECK(answer.status == 201);
  CHECK(answer.body == R"({"id":"gen-000000000000abc1"})");
  return answer.fields["location"];
}

}  // namespace

TEST_CASE("a watcher that comes back goes on where it stopped") {
  running_server s;
  client c(s.port());
  const auto where = open(s, c);
  CHECK(where == "/v1/generations/gen-000000000000abc1");
  const auto id = s.engine.wait_for(1);
  for (const char* token : {"a", "b", "ü"}) s.engine.token(id, token);
  s.engine.finish(id);
  const auto whole = c.call("GET", where + "/events").body;
  CHECK(has(whole, "event: started\ndata: {\"type\":\"started\",\"id\":\"gen-000000000000abc1\""));
  CHECK(
      has(whole,
          "event: delta\nid: 3\ndata: "
          "{\"type\":\"delta\",\"id\":\"gen-000000000000abc1\",\"offset\":0,\"next_offset\":3,\"text\":\"abü\"}\n\n"));
  CHECK(has(whole, "event: done\nid: 3\ndata: {\"type\":\"done\""));
  const auto rest = c.call("GET", where + "/events", {}, "Last-Event-ID: 1\r\n").body;
  CHECK(has(rest, "\"offset\":1,\"next_offset\":3,\"text\":\"bü\""));
  CHECK(has(c.call("GET", where + "/events?offset=2").body, "\"text\":\"ü\""));
  CHECK_FALSE(has(c.call("GET", where + "/events?offset=3").body, "event: delta"));
}

TEST_CASE("several watch one generation, and one leaving disturbs nobody") {
  running_server s;
  client c(s.port()), one(s.port()), two(s.port());
  const auto where = open(s, c);
  const auto id = s.engine.wait_for(1);
  one.ask("GET", where + "/events");
  two.ask("GET", where + "/events");
  for (auto* watcher : {&one, &two}) {
    CHECK(watcher->head().status == 200);
    CHECK(has(watcher->chunk(), "event: started"));
  }
  s.engine.token(id, "x");
  CHECK(has(one.chunk(), "\"text\":\"x\""));
  CHECK(has(two.chunk(), "\"text\":\"x\""));
  one.leave();
  s.engine.wait_for_watchers(1);
  s.engine.token(id, "y");
  CHECK(has(two.chunk(), "\"text\":\"y\""));
  CHECK(c.call("DELETE", where).status == 204);
  CHECK(has(two.chunk(), "\"finish_reason\":\"cancelled\""));
  CHECK(c.call("DELETE", where).status == 404);
}

TEST_CASE("unknown generations and offsets are refused before a stream begins") {
  running_server s;
  client c(s.port());
  CHECK(c.call("GET", "/v1/generations/gen-0000000000000001/events").status == 404);
  CHECK(c.call("GET", "/v1/generations/nonsense/events").status == 404);
  CHECK(c.call("DELETE", "/v1/generations/nonsense").status == 404);
  const auto where = open(s, c);
  CHECK(c.call("GET", where + "/events?offset=99").status == 400);
  CHECK(c.call("GET", where + "/events", {}, "Last-Event-ID: -1\r\n").status == 400);
}

TEST_CASE("opening one that fails gets the failure's status") {
  running_server s;
  client c(s.port());
  c.ask("POST", "/v1/generations", hello);
  s.engine.fail(s.engine.wait_for(1), {errc::overloaded, "The queue is full.", {}});
  CHECK(c.answer().status == 429);
}
