// Plain answers over real sockets.
#include "support/catch.hpp"

#include "server_fixture.hpp"

using namespace troupe;
using namespace troupe::server;

TEST_CASE("a chat is answered whole") {
  running_server s;
  client c(s.port());
  c.ask("POST", "/v1/chat/completions", hello_with(R"("logprobs":true,"top_logprobs":1)"), "x-request-id: mine-7\r\n");
  const auto id = s.engine.wait_for(1);
  s.engine.start(id);
  s.engine.token(id, "Grüß ");
  s.engine.token(id, "Gott 🚀");
  s.engine.finish(id);
  auto answer = c.answer();
  CHECK(answer.status == 200);
  CHECK(answer.fields["content-type"] == "application/json");
  CHECK(answer.fields["x-request-id"] == "mine-7");
  CHECK(has(answer.body, R"("id":"chatcmpl-000000000000abc1","object":"chat.completion")"));
  CHECK(has(answer.body, R"("model":"small")"));
  CHECK(has(answer.body, R"("message":{"role":"assistant","content":"Grüß Gott 🚀")"));
  CHECK(has(answer.body, R"("finish_reason":"stop")"));
  CHECK(has(answer.body,
            R"("prompt_tokens":7,"completion_tokens":2,"total_tokens":9,"prompt_tokens_details":{"cached_tokens":2})"));
  CHECK(has(answer.body, R"({"token":"Grüß ","logprob":-0.5,"bytes":[71,114,195,188,195,159,32])"));
}

TEST_CASE("one connection serves many requests, also those sent ahead") {
  running_server s;
  client c(s.port());
  c.ask("POST", "/v1/completions", R"({"prompt":"one"})");
  c.ask("POST", "/v1/completions", R"({"prompt":"two"})");
  c.ask("GET", "/v1/models/large");
  const auto first = s.engine.wait_for(1);
  CHECK(s.engine.submitted() == 1);  // one after another
  s.engine.token(first, "1");
  s.engine.finish(first, finish_reason::length);
  const auto one = c.answer();
  CHECK(has(one.body, R"("object":"text_completion")"));
  CHECK(has(one.body, R"("text":"1","logprobs":null,"finish_reason":"length")"));
  const auto second = s.engine.wait_for(2);
  CHECK(std::get<text_prompt>(s.engine.asked(second).prompt) == "two");
  s.engine.finish(second);
  CHECK(c.answer().status == 200);
  CHECK(has(c.answer().body, R"("id":"large","object":"model")"));
}

TEST_CASE("a bad request among pipelined ones ends the connection") {
  running_server s;
  client c(s.port());
  c.ask("GET", "/health");
  c.send("GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n");
  c.ask("POST", "/v1/chat/completions", hello);
  CHECK(c.answer().status == 200);
  CHECK(c.answer().status == 400);
  CHECK(c.closed());
  CHECK(s.engine.submitted() == 0);
}

TEST_CASE("errors before the first token get their own status") {
  running_server s;
  client c(s.port());
  for (const bool stream : {false, true}) {
    const auto body = hello_with(stream ? R"("stream":true)" : R"("stream":false)");
    c.ask("POST", "/v1/chat/completions", body);
    s.engine.fail(s.engine.wait_for(s.engine.submitted() == 0 ? 1 : 3), {errc::overloaded, "The queue is full.", {}});
    auto answer = c.answer();
    CHECK(answer.status == 429);
    CHECK(answer.fields["retry-after"] == "1");
    CHECK(has(answer.body, R"("type":"rate_limit_error")"));
    c.ask("POST", "/v1/chat/completions", body);
    s.engine.fail(s.engine.wait_for(stream ? 4 : 2),
                  {errc::context_length_exceeded, "The prompt has 9000 tokens, the context 8192.", "messages"});
    answer = c.answer();
    CHECK(answer.status == 400);
    CHECK(has(answer.body, R"("code":"context_length_exceeded")"));
    CHECK(has(answer.body, "9000"));
  }
}

TEST_CASE("wrong requests are told what is wrong") {
  running_server s;
  client c(s.port());
  auto answer = c.call("POST", "/v1/chat/completions", "{");
  CHECK(answer.status == 400);
  answer = c.call("POST", "/v1/chat/completions", hello_with(R"("temperature":9)"));
  CHECK(answer.status == 400);
  CHECK(has(answer.body, R"("param":"temperature")"));
  answer = c.call("POST", "/v1/chat/completions", R"({"model":"../etc","messages":[{"role":"user","content":"x"}]})");
  CHECK(answer.status == 404);
  CHECK(has(answer.body, R"("code":"model_not_found")"));
  CHECK(c.call("GET", "/v1/models/none").status == 404);
  CHECK(c.call("GET", "/nothing/here").status == 404);
  CHECK(c.call("GET", "/v1/%6dodels").status == 404);
  answer = c.call("GET", "/v1/chat/completions");
  CHECK(answer.status == 405);
  CHECK(answer.fields["allow"] == "POST");
  CHECK(has(answer.body, "\"error\""));
  CHECK(c.call("DELETE", "/health").fields["allow"] == "GET, HEAD");
  CHECK(c.call("GET", "/health").status == 200);  // the same connection all along
  CHECK(client(s.port()).call("BREW", "/coffee/pot").status == 501);
}

TEST_CASE("models, metrics and health are told") {
  running_server s;
  client c(s.port());
  const auto models = c.call("GET", "/v1/models").body;
  CHECK(has(
      models,
      R"({"object":"list","data":[{"id":"small","object":"model","created":1700000000,"owned_by":"troupe","context_length":8192)"));
  CHECK(c.call("GET", "/health").body == R"({"status":"ok"})");
  auto metrics = c.call("GET", "/metrics");
  CHECK(metrics.fields["content-type"] == "text/plain; version=0.0.4; charset=utf-8");
  CHECK(has(metrics.body, "troupe_scripted 1\n"));
  CHECK(has(metrics.body, "troupe_http_connections 1\n"));
  CHECK(has(metrics.body, "troupe_http_requests_total{route=\"/v1/models\",status=\"200\"} 1\n"));
}

TEST_CASE("health is false where the engine does not answer") {
  server_options options;
  options.timeouts.health = std::chrono::milliseconds(20);
  running_server s(options);
  s.engine.hung = true;
  CHECK(client(s.port()).call("GET", "/health").status == 503);
}

TEST_CASE("the page comes with a checksum and a strict policy") {
  running_server s;
  client c(s.port());
  auto page = c.call("GET", "/");
  CHECK(page.status == 200);
  CHECK(page.fields["content-type"] == "text/html; charset=utf-8");
  CHECK(has(page.fields["content-security-policy"], "default-src 'none'"));
  CHECK(page.fields["x-content-type-options"] == "nosniff");
  CHECK(c.call("GET", "/app.js").fields["content-type"] == "text/javascript; charset=utf-8");
  CHECK(c.call("GET", "/favicon.svg").fields["content-type"] == "image/svg+xml");
  CHECK(c.call("GET", "/", {}, "If-None-Match: " + page.fields["etag"] + "\r\n").status == 304);
  c.ask("HEAD", "/");
  auto head = c.head();
  CHECK(head.fields["content-length"] == std::to_string(page.body.size()));
  CHECK(c.call("GET", "/health").status == 200);  // no body came behind the head
}
