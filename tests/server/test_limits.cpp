// Limits, deadlines, strangers, and the orderly end.
#include "support/catch.hpp"

#include <thread>

#include "server_fixture.hpp"

using namespace troupe;
using namespace troupe::server;

TEST_CASE("a slow head and a slow body are answered 408") {
  server_options options;
  options.timeouts.header = options.timeouts.body = std::chrono::milliseconds(30);
  running_server s(options);
  client silent(s.port()), slow(s.port()), body(s.port());
  slow.send("GET / HTTP/1.1\r\nHo");
  body.send(
      "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
      "50\r\n\r\n{");
  for (auto* c : {&silent, &slow, &body}) {
    CHECK(c->answer().status == 408);
    CHECK(c->closed());
  }
}

TEST_CASE("an idle connection is closed without a word") {
  server_options options;
  options.timeouts.idle = std::chrono::milliseconds(30);
  running_server s(options);
  client c(s.port());
  CHECK(c.call("GET", "/health").status == 200);
  CHECK(c.closed());
}

TEST_CASE("a body over the limit is refused, by its length or by its chunks") {
  server_options options;
  options.max_body = 1000;
  running_server s(options);
  client c(s.port());
  CHECK(c.call("POST", "/v1/completions", R"({"prompt":")" + std::string(2000, 'x') + "\"}").status == 413);
  CHECK(c.closed());
  client chunked(s.port());
  chunked.send(
      "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: "
      "chunked\r\n\r\n");
  chunked.send("400\r\n" + std::string(1024, ' ') + "\r\n");
  CHECK(chunked.answer().status == 413);
}

TEST_CASE("chunks without end, extensions and trailers are bounded") {
  running_server s;
  const std::string head =
      "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: "
      "chunked\r\n\r\n";
  for (const std::string& bad : {"5;" + std::string(70000, 'x'), "0\r\nX: " + std::string(70000, 'x'),
                                 std::string("0x3\r\nabc\r\n\r\n"), std::string("-1\r\n")}) {
    client c(s.port());
    INFO(bad.substr(0, 8));
    c.send(head + bad);
    CHECK(c.answer().status == 400);
  }
  client fine(s.port());
  fine.send(head + "e\r\n{\"prompt\":\"x\"}\r\n0\r\nHost: evil.com\r\n\r\n");
  s.engine.finish(s.engine.wait_for(1));
  CHECK(fine.answer().status == 200);
}

TEST_CASE("large or broken heads are refused") {
  running_server s;
  const auto status = [&](const std::string& text) {
    client c(s.port());
    c.send(text);
    const int got = c.answer().status;
    CHECK(c.closed());
    return got;
  };
  CHECK(status("GET / HTTP/1.1\r\nHost: localhost\r\nX: " + std::string(20000, 'x') + "\r\n\r\n") == 431);
  CHECK(status("GET / HTTP/1.1\r\nHost : localhost\r\n\r\n") == 400);
  CHECK(status("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") >= 400);
  CHECK(status("nonsense\r\n\r\n") == 400);
  CHECK(status("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\nContent-Length: "
               "5\r\n\r\n12345GET /health HTTP/1.1\r\n\r\n") == 400);
}

TEST_CASE("an expectation is met only for a request that may come") {
  running_server s;
  client c(s.port());
  c.send(
      "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
      "14\r\nExpect: 100-continue\r\n\r\n");
  CHECK(c.head().status == 100);
  c.send(R"({"prompt":"x"})");
  s.engine.finish(s.engine.wait_for(1));
  CHECK(c.answer().status == 200);
  client large(s.port());
  large.send(
      "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
      "99999999\r\nExpect: 100-continue\r\n\r\n");
  CHECK(large.answer().status == 413);
}

TEST_CASE("strangers are refused: foreign Host, foreign Origin, form posts") {
  running_server s;
  client host(s.port());
  host.send("GET /v1/models HTTP/1.1\r\nHost: evil.com\r\n\r\n");
  CHECK(host.answer().status == 403);
  CHECK(client(s.port()).call("POST", "/v1/chat/completions", hello, "Origin: http://evil.com\r\n").status == 403);
  CHECK(client(s.port()).call("DELETE", "/v1/generations/gen-0000000000000001", {}, "Origin: null\r\n").status == 403);
  client form(s.port());
  form.send(
      "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: "
      "2\r\n\r\n{}");
  CHECK(form.answer().status == 415);
  auto preflight = client(s.port()).call("OPTIONS", "/v1/chat/completions", {}, "Origin: http://evil.com\r\n");
  CHECK_FALSE(preflight.fields.contains("access-control-allow-origin"));
  CHECK_FALSE(preflight.fields.contains("access-control-allow-methods"));
  CHECK(s.engine.submitted() == 0);
}

TEST_CASE("an origin named at start may call") {
  server_options options;
  options.allowed_origins = {"https://app.example"};
  running_server s(options);
  client c(s.port());
  auto preflight = c.call("OPTIONS", "/v1/chat/completions", {}, "Origin: https://app.example\r\n");
  CHECK(preflight.status == 204);
  CHECK(preflight.fields["access-control-allow-origin"] == "https://app.example");
  CHECK(preflight.fields["access-control-allow-methods"] == "POST");
  c.ask("POST", "/v1/chat/completions", hello, "Origin: https://app.example\r\n");
  s.engine.finish(s.engine.wait_for(1));
  CHECK(c.answer().fields["access-control-allow-origin"] == "https://app.example");
}

TEST_CASE("listening is refused where it would surprise") {
  scripted_service engine;
  server_options options;
  options.port = 0;
  options.address = "0.0.0.0";
  const auto remote = http_server::start(engine, options);
  REQUIRE_FALSE(remote.ok());
  CHECK(has(remote.why().text, "--allow-remote"));
  options.allow_remote = true;
  CHECK(http_server::start(engine, options).ok());
  options.address = "nowhere";
  CHECK(http_server::start(engine, options).why().code == errc::invalid_argument);
  running_server taken;
  options = {};
  options.port = taken.port();
  const auto second = http_server::start(engine, options);
  REQUIRE_FALSE(second.ok());
  CHECK(second.why().code == errc::io);
  CHECK(has(second.why().text, std::to_string(taken.port())));
}

TEST_CASE("beyond the connection limit clients wait until one leaves") {
  server_options options;
  options.max_connections = 2;
  running_server s(options);
  auto first = std::make_unique<client>(s.port());
  client second(s.port());
  CHECK(first->call("GET", "/health").status == 200);
  CHECK(second.call("GET", "/health").status == 200);
  client third(s.port());
  third.ask("GET", "/metrics");
  first.reset();
  CHECK(has(third.answer().body, "troupe_http_connections 2\n"));
}

TEST_CASE("an ending server finishes its answers and closes idle connections") {
  running_server s;
  client busy(s.port()), idle(s.port());
  CHECK(idle.call("GET", "/health").status == 200);
  busy.ask("POST", "/v1/chat/completions", hello_with(R"("stream":true)"));
  const auto id = s.engine.wait_for(1);
  std::thread ending([&] { s.server->drain(std::chrono::seconds(20)); });
  CHECK(idle.closed());
  s.engine.token(id, "still here");
  s.engine.finish(id);
  CHECK(has(busy.answer().body, "still here"));
  busy.leave();
  ending.join();
  CHECK(s.engine.reason(id) == finish_reason::stop);
}

TEST_CASE("at the deadline the rest is cut and cancelled") {
  running_server s;
  client c(s.port());
  c.ask("POST", "/v1/chat/completions", hello);
  const auto id = s.engine.wait_for(1);
  s.server->drain(std::chrono::milliseconds(1));
  CHECK(c.closed());
  s.engine.wait_until_over(id);
  CHECK(s.engine.reason(id) == finish_reason::cancelled);
}
