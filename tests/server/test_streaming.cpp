// Server-sent events of the OpenAI routes; what happens when a client leaves or reads slowly.
#include "support/catch.hpp"

#include "server_fixture.hpp"

using namespace troupe;
using namespace troupe::server;

namespace {

/// Starts a streamed chat and reads up to the first chunk.
generation_id begin_stream(running_server& s, client& c, std::uint64_t n = 1,
                           const std::string& more = R"("stream":true)") {
  c.ask("POST", "/v1/chat/completions", hello_with(more));
  const auto id = s.engine.wait_for(n);
  s.engine.start(id);
  CHECK(c.head().fields["content-type"] == "text/event-stream");
  CHECK(has(c.chunk(), R"("delta":{"role":"assistant","content":"")"));
  return id;
}

}  // namespace

TEST_CASE("a chat streams role, text, reason, usage and the end") {
  running_server s;
  client c(s.port());
  const auto id = begin_stream(s, c, 1, R"("stream":true,"stream_options":{"include_usage":true})");
  s.engine.token(id, "für");
  const auto first = c.chunk();
  CHECK(first.substr(0, 6) == "data: ");
  CHECK(has(first, R"("object":"chat.completion.chunk")"));
  CHECK(has(first,
            R"("choices":[{"index":0,"delta":{"content":"für"},"logprobs":null,"finish_reason":null}],"usage":null})"));
  s.engine.token(id, " dich");
  CHECK(has(c.chunk(), R"("content":" dich")"));
  s.engine.finish(id, finish_reason::length);
  std::string rest;
  for (std::string part; !(part = c.chunk()).empty();) rest += part;
  CHECK(has(rest, R"("delta":{},"logprobs":null,"finish_reason":"length")"));
  CHECK(has(rest, R"("choices":[],"usage":{"prompt_tokens":7)"));
  CHECK(rest.substr(rest.size() - 14) == "data: [DONE]\n\n");
  CHECK(c.call("GET", "/health").status == 200);  // the connection goes on
}

TEST_CASE("a failure in mid-stream is an event, and the end") {
  running_server s;
  client c(s.port());
  const auto id = begin_stream(s, c);
  s.engine.fail(id, {errc::numeric, "NaN in the logits.", {}});
  const auto last = c.chunk();
  CHECK(has(last, R"(data: {"error":{"message":"NaN in the logits.")"));
  CHECK_FALSE(has(last, "[DONE]"));
  CHECK(c.chunk().empty());
}

TEST_CASE("HTTP/1.0 gets a stream without chunks, ended by the close") {
  running_server s;
  client c(s.port());
  const auto body = hello_with(R"("stream":true)");
  c.send("POST /v1/chat/completions HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: " +
         std::to_string(body.size()) + "\r\n\r\n" + body);
  const auto id = s.engine.wait_for(1);
  s.engine.token(id, "x");
  s.engine.finish(id);
  CHECK_FALSE(c.head().fields.contains("transfer-encoding"));
  CHECK(has(c.until("data: [DONE]\n\n"), R"("content":"x")"));
  CHECK(c.closed());
}

TEST_CASE("a client that leaves has its generation cancelled at once") {
  running_server s;
  enum class way { close, half_close, reset };
  std::uint64_t n = 0;
  for (const auto how : {way::close, way::half_close, way::reset})
    for (const auto when : {"queued, whole", "queued, stream", "streaming"}) {
      INFO(when);
      client c(s.port());
      const std::string stage = when;
      generation_id id = 0;
      if (stage == "streaming") {
        id = begin_stream(s, c, ++n);
      } else {
        c.ask("POST", "/v1/chat/completions", stage == "queued, stream" ? hello_with(R"("stream":true)") : hello);
        id = s.engine.wait_for(++n);
      }
      if (how == way::close) c.leave();
      if (how == way::half_close) c.half_close();
      if (how == way::reset) c.reset();
      s.engine.wait_until_over(id);
      CHECK(s.engine.reason(id) == finish_reason::cancelled);
      s.engine.wait_for_watchers(0);
    }
}

TEST_CASE("a slow reader stops its own events and is cut in the end") {
  server_options options;
  options.timeouts.stall = std::chrono::milliseconds(50);
  running_server s(options);
  client c(s.port(), 4096);
  const auto id = begin_stream(s, c);
  for (int i = 0; i < 400; ++i)
    s.engine.token(id, std::string(64 * 1024, 'x'));  // nobody reads: more than any kernel buffers
  s.engine.wait_until_over(id);
  CHECK(s.engine.reason(id) == finish_reason::cancelled);
}

TEST_CASE("credit comes back as events are written") {
  running_server s;
  client c(s.port());
  const auto id = begin_stream(s, c);
  for (int i = 0; i < 100; ++i) {
    s.engine.token(id, "t" + std::to_string(i) + ";");
    CHECK(has(c.chunk(), "t" + std::to_string(i) + ";"));
  }
  s.engine.finish(id);
  CHECK(has(c.until("[DONE]"), R"("finish_reason":"stop")"));
}
