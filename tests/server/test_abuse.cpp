// What a client may try on the wire beyond what it should: folded fields, fragments and pings without end, readers that
// never read. Rows of the catalogue of bad inputs stand beside each.
#include "support/catch.hpp"

#include "server_fixture.hpp"

using namespace troupe;
using namespace troupe::server;

namespace {

const std::string ask_a = R"({"type":"generate","id":"a","messages":[{"role":"user","content":"hi"}]})";

http_answer sent(const running_server& s, const std::string& text) {
  client c(s.port());
  c.send(text);
  auto got = c.answer();
  CHECK(c.closed());
  return got;
}

/// A masked frame with its own first byte.
std::string frame_of(int first, std::string_view payload) {
  REQUIRE(payload.size() < 126);
  std::string out{static_cast<char>(first), static_cast<char>(0x80 | payload.size())};
  return out.append(4, '\0').append(payload);
}

/// The server says 1008, hears the same from the client, and ends the connection.
void check_closed_by_policy(client& c) {
  CHECK(c.next_frame() == "close 1008");
  c.frame("\x03\xf0", 8);
  CHECK(c.closed());
}

}  // namespace

TEST_CASE("folded fields, bare line ends, zeros and names that are not ASCII are refused (row 11)") {
  running_server s;
  const std::string start = "GET /health HTTP/1.1\r\nHost: localhost\r\n";
  for (const std::string& field : {std::string("X: a\r\n b"), std::string("X: a\r\n\tb"), std::string("X: a\nY: b"),
                                   std::string("X: a\rb"), std::string("X: a\0b", 6), std::string("X\0Y: a", 6),
                                   std::string("X\xc3\xa9: a"), std::string(" X: a"), std::string("X : a")}) {
    INFO(field);
    CHECK(sent(s, start + field + "\r\n\r\n").status == 400);
  }
}

TEST_CASE("an obsolete fold cannot smuggle a body's length or a host past the guard (rows 1, 11)") {
  running_server s;
  CHECK(sent(s,
             "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
             "application/json\r\nContent-Length:\r\n 5\r\n\r\n12345")
            .status == 400);
  CHECK(sent(s, "GET /health HTTP/1.1\r\nHost:\r\n localhost\r\n\r\n").status == 400);
}

TEST_CASE("a text in fragments is one message, also where a border falls into a letter (row 27)") {
  running_server s;
  client c(s.port());
  c.handshake();
  std::string text = ask_a;
  text.replace(text.find("hi"), 2, "\xc3\xa9");
  const auto cut = text.find('\xa9');
  c.send(frame_of(0x01, text.substr(0, cut)));
  c.send(frame_of(0x89, "ping"));  // control frames may come between fragments
  c.send(frame_of(0x80, text.substr(cut)));
  s.engine.finish(s.engine.wait_for(1));
  std::string all;
  while (!has(all, R"("type":"done")")) all += c.next_frame();
}

TEST_CASE("frames against the protocol end the socket with 1002 (rows 26, 31, 32)") {
  running_server s;
  const std::string whole = frame_of(0x81, "{}");
  const std::string rows[] = {
      frame_of(0xc1, "{}"),  // RSV1: compression was not agreed on
      frame_of(0xa1, "{}"),
      frame_of(0x91, "{}"),  // RSV2, RSV3
      frame_of(0x83, "x"),
      frame_of(0x8b, "x"),                                             // opcodes that mean nothing
      frame_of(0x80, "x"),                                             // a continuation of nothing
      frame_of(0x01, "{") + frame_of(0x81, "}"),                       // a new text inside a fragmented one
      frame_of(0x09, "x"),                                             // a ping in fragments
      std::string("\x89\xfe\x00\x7emask", 8) + std::string(126, 'x'),  // a ping of 126 bytes
      std::string("\x81\x02{}", 4),                                    // not masked
      frame_of(0x88, "x"),                                             // a close with half a code
      frame_of(0x88, std::string("\x03\xe7", 2)),
      frame_of(0x88, std::string("\x03\xed", 2)),  // 999, 1005
  };
  for (const std::string& bytes : rows) {
    client c(s.port());
    c.handshake();
    c.send(bytes);
    CHECK(c.next_frame() == "close 1002");
    CHECK(c.closed());
  }
}

TEST_CASE("compression is not negotiated (row 31)") {
  running_server s;
  client c(s.port());
  const auto answer =
      c.handshake("Sec-WebSocket-Protocol: troupe.v1\r\nSec-WebSocket-Extensions: permessage-deflate\r\n");
  CHECK(answer.status == 101);
  CHECK_FALSE(answer.fields.contains("sec-websocket-extensions"));
}

TEST_CASE("fragments without end close the socket with 1008 (row 29)") {
  running_server s;
  client c(s.port());
  c.handshake();
  std::string many = frame_of(0x01, "{");
  for (int i = 0; i < 1030; ++i) many += frame_of(0x00, " ");
  c.send(many);
  check_closed_by_policy(c);
  client fine(s.port());  // as many as are allowed, of which some are empty
  fine.handshake();
  many = frame_of(0x01, "{");
  for (int i = 0; i < 1000; ++i) many += frame_of(0x00, i % 3 == 0 ? " " : "");
  fine.send(many + frame_of(0x80, "}"));
  CHECK(has(fine.next_frame(), R"("type":"error")"));
}

TEST_CASE("empty fragments without end close the socket with 1008, also behind an empty first one (row 29)") {
  running_server s;
  for (const char* first : {"{", ""}) {
    client c(s.port());
    c.handshake();
    std::string many = frame_of(0x01, first);
    for (int i = 0; i < 3000; ++i) many += frame_of(0x00, "");
    c.send(many);
    check_closed_by_policy(c);
  }
}

TEST_CASE("pings are no part of the message that they come within (rows 29, 30)") {
  running_server s;
  client c(s.port());
  c.handshake();
  const std::string ping = frame_of(0x89, std::string(125, 'x'));
  std::string many = frame_of(0x01, "{");
  for (int i = 0; i < 49; ++i) many += ping + frame_of(0x00, "");  // more bytes than empty fragments may have
  c.send(many + frame_of(0x80, "}"));
  CHECK(has(c.next_frame(), R"("type":"error")"));
}

TEST_CASE("a message that is never finished closes the socket with 1008 (row 29)") {
  server_options options;
  options.timeouts.body = std::chrono::milliseconds(50);
  running_server s(options);
  for (const std::string& begun : {frame_of(0x01, "{"), frame_of(0x01, "") + frame_of(0x89, "x")}) {
    client c(s.port());
    c.handshake();
    c.send(begun);
    check_closed_by_policy(c);
  }
}

TEST_CASE("a socket of pings alone has no message to finish (row 30)") {
  server_options options;
  options.timeouts.body = std::chrono::milliseconds(30);
  running_server s(options);
  client c(s.port()), later(s.port());
  c.handshake();
  c.send(frame_of(0x89, "x"));
  CHECK(c.exactly(3) == "\x8a\x01x");
  later.handshake();
  later.send(frame_of(0x01, "{"));
  CHECK(later.next_frame() == "close 1008");  // so the time that began with the ping is over too
  c.frame("{}");
  CHECK(has(c.next_frame(), R"("type":"error")"));
}

TEST_CASE("a flood of pings closes the socket with 1008, some are answered (row 30)") {
  running_server s;
  client fine(s.port());
  fine.handshake();
  for (int i = 0; i < 40; ++i) fine.send(frame_of(0x89, "x"));
  fine.frame("{}");
  CHECK(has(fine.next_frame(), R"("type":"error")"));
  client c(s.port());
  c.handshake();
  std::string many;
  for (int i = 0; i < 500; ++i) many += frame_of(i % 2 == 0 ? 0x89 : 0x8a, "x");
  c.send(many);
  CHECK(c.next_frame() == "close 1008");
}

TEST_CASE("a WebSocket that is not read pauses its generation and is given up (row 35)") {
  server_options options;
  options.timeouts.stall = std::chrono::milliseconds(50);
  running_server s(options);
  client c(s.port(), 4096);
  c.handshake();
  c.frame(ask_a);
  const auto id = s.engine.wait_for(1);
  s.engine.start(id);
  for (int i = 0; i < 400; ++i) s.engine.token(id, std::string(64 * 1024, 'x'));
  s.engine.wait_until_over(id);
  CHECK(s.engine.reason(id) == finish_reason::cancelled);
}

TEST_CASE("a WebSocket that is read again after it was given up hears why: 1013 (row 35)") {
  server_options options;
  options.timeouts.stall = std::chrono::milliseconds(50);
  options.timeouts.close = std::chrono::milliseconds(20'000);
  running_server s(options);
  client c(s.port());
  c.handshake();
  c.frame(ask_a);
  const auto id = s.engine.wait_for(1);
  for (int i = 0; i < 400; ++i) s.engine.token(id, std::string(64 * 1024, 'x'));
  s.engine.start(id);
  s.engine.wait_until_over(id);
  CHECK(s.engine.reason(id) == finish_reason::cancelled);
  std::string last;
  while (!has(last, "close")) last = c.next_frame();
  CHECK(last == "close 1013");
  c.frame("\x03\xf5", 8);
  CHECK(c.closed());
}

TEST_CASE("a WebSocket that is never read is closed all the same (row 35)") {
  server_options options;
  options.timeouts.stall = options.timeouts.close = std::chrono::milliseconds(50);
  running_server s(options);
  client c(s.port()), observer(s.port());
  c.handshake();
  c.frame(ask_a);
  const auto id = s.engine.wait_for(1);
  s.engine.start(id);
  for (int i = 0; i < 400; ++i) s.engine.token(id, std::string(64 * 1024, 'x'));
  s.engine.wait_until_over(id);
  while (!has(observer.call("GET", "/metrics").body, "troupe_websockets 0\n")) {
  }
}
