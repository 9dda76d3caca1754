// /v1/stream: many generations on one socket.
#include "support/catch.hpp"

#include <thread>

#include "server_fixture.hpp"

using namespace troupe;
using namespace troupe::server;

namespace {

const std::string ask_a = R"({"type":"generate","id":"a","messages":[{"role":"user","content":"hi"}]})";
const std::string ask_b = R"({"type":"generate","id":"b","prompt":"once","model":"large"})";

}  // namespace

TEST_CASE("two generations share a socket, each with its own events") {
  running_server s;
  client c(s.port());
  auto shaken = c.handshake();
  CHECK(shaken.status == 101);
  CHECK(shaken.fields["sec-websocket-protocol"] == "troupe.v1");
  c.frame(ask_a);
  const auto a = s.engine.wait_for(1);
  c.frame(ask_b);
  const auto b = s.engine.wait_for(2);
  s.engine.start(a);
  CHECK(c.next_frame() ==
        R"({"type":"started","id":"a","generation":"gen-000000000000abc1","model":"small","prompt_tokens":7})");
  s.engine.start(b);
  CHECK(has(c.next_frame(), R"("id":"b","generation":"gen-000000000000abc2","model":"large")"));
  s.engine.token(b, "ß");
  CHECK(c.next_frame() == R"({"type":"delta","id":"b","offset":0,"next_offset":1,"text":"ß"})");
  s.engine.token(a, "x");
  CHECK(has(c.next_frame(), R"("id":"a","offset":0)"));
  s.engine.finish(a);
  CHECK(has(
      c.next_frame(),
      R"({"type":"done","id":"a","offset":1,"finish_reason":"stop","usage":{"prompt_tokens":7,"cached_tokens":2,"completion_tokens":1,"total_tokens":8},"timing":{"queued_ms":1,"first_token_ms":2,"total_ms":3}})"));
  c.frame(ask_a);  // an ended id may be used again
  s.engine.wait_for(3);
  c.frame(R"({"type":"cancel","id":"b"})");
  CHECK(has(c.next_frame(), R"("finish_reason":"cancelled")"));
}

TEST_CASE("a bad frame gets an error and the socket lives") {
  running_server s;
  client c(s.port());
  c.handshake();
  for (const char* bad : {"nonsense", R"({"type":"dance"})", R"({"type":"generate","id":"x"})",
                          R"({"type":"generate","id":"x","prompt":"a","temperature":"hot"})",
                          R"({"type":"generate","id":"x","prompt":"a","model":"none"})"}) {
    c.frame(bad);
    const auto answer = c.next_frame();
    INFO(bad << " -> " << answer);
    CHECK(has(answer, R"({"type":"error")"));
    CHECK(has(answer, R"("error":{"message":)"));
  }
  c.frame(R"({"type":"cancel","id":"never there"})");
  c.frame(ask_a);
  const auto id = s.engine.wait_for(1);
  c.frame(ask_a);
  CHECK(has(c.next_frame(),
            R"({"type":"error","id":"a","error":{"message":"A generation of this id is still running.")"));
  s.engine.fail(id, {errc::overloaded, "The queue is full.", {}});
  CHECK(has(c.next_frame(), R"("code":"overloaded")"));
}

TEST_CASE("the number of live generations is bounded") {
  server_options options;
  options.max_live_generations = 1;
  running_server s(options);
  client c(s.port());
  c.handshake();
  c.frame(ask_a);
  s.engine.wait_for(1);
  c.frame(ask_b);
  CHECK(has(c.next_frame(), R"("code":"overloaded")"));
}

TEST_CASE("dropping the socket cancels all that ran on it") {
  running_server s;
  client c(s.port());
  c.handshake();
  c.frame(ask_a);
  c.frame(ask_b);
  const auto a = s.engine.wait_for(1), b = s.engine.wait_for(2);
  s.engine.start(a);
  c.next_frame();
  c.reset();
  s.engine.wait_until_over(a);
  s.engine.wait_until_over(b);
  CHECK(s.engine.reason(b) == finish_reason::cancelled);
}

TEST_CASE("broken frames end the socket with their code") {
  running_server s;
  struct row {
    std::string payload;
    int opcode;
    std::string code;
  };
  for (const auto& [payload, opcode, code] :
       {row{"x", 2, "close 1003"}, row{"\xff\xfe", 1, "close 1007"}, row{"x", 3, "close 1002"}}) {
    client c(s.port());
    c.handshake();
    c.frame(payload, opcode);
    CHECK(c.next_frame() == code);
  }
  // A message of 1 MiB and a byte is refused at its header: nothing of it needs to be sent.
  client c(s.port());
  c.handshake();
  c.send(std::string_view("\x81\xff\x00\x00\x00\x00\x00\x10\x00\x01mask", 14));
  CHECK(c.next_frame() == "close 1009");
}

TEST_CASE("a handshake needs the right version, subprotocol and origin") {
  running_server s;
  CHECK(client(s.port()).call("GET", "/v1/stream").status == 426);
  CHECK(client(s.port()).handshake("").status == 400);
  CHECK(client(s.port()).handshake("Sec-WebSocket-Protocol: other\r\n").status == 400);
  CHECK(client(s.port()).handshake("Sec-WebSocket-Protocol: other, troupe.v1\r\n").status == 101);
  for (const char* key : {"short", "dGhlIHNhbXBsZSBub25jZ===", "dGhlIHNhbXBsZSBub25j!Q=="}) {
    client c(s.port());
    c.ask("GET", "/v1/stream", {},
          "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: "
          "troupe.v1\r\nSec-WebSocket-Key: " +
              std::string(key) + "\r\n");
    CHECK(c.answer().status == 400);
  }
  client hasty(s.port());
  hasty.send(
      "GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: "
      "Upgrade\r\nSec-WebSocket-Version: 13\r\n"
      "Sec-WebSocket-Protocol: troupe.v1\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\x81\x82");
  CHECK(hasty.answer().status == 400);
  CHECK(hasty.closed());
  const auto with_origin = [&](const std::string& origin) {
    return client(s.port()).handshake("Sec-WebSocket-Protocol: troupe.v1\r\nOrigin: " + origin + "\r\n").status;
  };
  CHECK(with_origin("http://localhost:" + std::to_string(s.port())) == 101);
  CHECK(with_origin("null") == 403);
  CHECK(with_origin("http://evil-localhost.com") == 403);
}

TEST_CASE("an ending server lets a socket's generations end, then says going away") {
  running_server s;
  client c(s.port()), idle(s.port());
  c.handshake();
  idle.handshake();
  c.frame(ask_a);
  const auto id = s.engine.wait_for(1);
  std::thread ending([&] { s.server->drain(std::chrono::seconds(20)); });
  CHECK(idle.next_frame() == "close 1001");
  idle.leave();
  c.frame(ask_b);
  CHECK(has(c.next_frame(), R"("code":"shutting_down")"));
  s.engine.token(id, "x");
  s.engine.finish(id);
  std::string all;
  while (!has(all, "close 1001")) all += c.next_frame();
  CHECK(has(all, R"("type":"done")"));
  c.leave();
  ending.join();
}
