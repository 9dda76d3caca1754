// The whole engine with a tiny model of random weights: what a C++ program sees.
#include <set>
#include <thread>

#include <troupe/troupe.hpp>

#include "support/catch.hpp"
#include "support/tiny_model.hpp"

using namespace troupe;

namespace {

struct tiny {
  explicit tiny(runtime_options options = {}) : file(".gguf"), owner(small(options)) {
    REQUIRE(test::write_tiny_model(file.string()));
  }
  static runtime_options small(runtime_options options) {
    options.threads = 1;
    options.kv_bytes = 16 << 20;
    return options;
  }
  model load() { return owner.load(file.string()); }
  test::scratch_path file;
  runtime owner;
};

ask_options ask(std::int32_t tokens, std::uint64_t seed = 1) {
  ask_options options;
  options.max_tokens = tokens;
  options.how.seed = seed;
  return options;
}

event last_of(generation& answer) {
  event last;
  for (const event& e : answer) last = e;
  return last;
}

error failure_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const failure& f) {
    return f.why();
  }
  return {errc::internal, "nothing was thrown", {}};
}

}  // namespace

TEST_CASE("a chat streams started, deltas and done, and usage counts the tokens") {
  tiny t;
  auto answer = t.load().chat("hello", ask(20));
  std::vector<event> events;
  for (const event& e : answer) events.push_back(e);
  REQUIRE(events.size() >= 2);
  CHECK(events.front().what == event::kind::started);
  CHECK(events.front().usage.prompt_tokens > 5);
  CHECK(events.back().what == event::kind::done);
  CHECK(events.back().reason == finish_reason::length);
  CHECK(events.back().usage.completion_tokens == 20);
  CHECK(events.back().next_offset == 20);
  CHECK(events.back().timing.total_ms >= events.back().timing.first_token_ms);
  CHECK(answer.ended());
}

TEST_CASE("same seed, same text; another seed, another text; alone or among sixteen") {
  tiny t;
  const model m = t.load();
  const std::string alone = m.chat("a question", ask(40, 5)).text();
  CHECK(m.chat("a question", ask(40, 5)).text() == alone);
  CHECK(m.chat("a question", ask(40, 6)).text() != alone);

  std::vector<generation> together;
  for (std::uint64_t seed = 0; seed < 16; ++seed)
    together.push_back(
        m.chat(seed == 9 ? "a question" : "another " + std::to_string(seed), ask(40, seed == 9 ? 5 : seed)));
  std::set<std::string> texts;
  for (std::size_t i = 0; i < together.size(); ++i) {
    const std::string text = together[i].text();
    texts.insert(text);
    if (i == 9) CHECK(text == alone);
  }
  CHECK(texts.size() == 16);
}

TEST_CASE("prompts of several chunks and a full batch change no text") {
  runtime_options options;
  options.max_batch_tokens = 32;
  tiny whole, chunked(options);
  const std::string question(200, 'q');
  CHECK(whole.load().chat(question, ask(30)).text() == chunked.load().chat(question, ask(30)).text());
}

TEST_CASE("a cancel ends a generation with done, and its room is given to the next") {
  tiny t;
  const model m = t.load();
  auto endless = ask(400);
  endless.ignore_eos = true;
  int cancelled = 0;
  for (int round = 0; round < 50; ++round) {
    auto answer = m.chat("go on", endless);
    while (auto e = answer.next())
      if (e->what == event::kind::delta) break;
    answer.cancel();
    const event last = last_of(answer);
    REQUIRE(last.what == event::kind::done);
    cancelled += last.reason == finish_reason::cancelled;  // a busy machine may let the model reach its limit first
  }
  CHECK(cancelled > 0);
  CHECK(m.chat("still there?", ask(5)).next());
}

TEST_CASE("dropping an answer unread leaves no generation behind") {
  tiny t;
  const model m = t.load();
  for (int round = 0; round < 100; ++round) static_cast<void>(m.chat("nobody listens", ask(400)));
  CHECK(t.owner.drain(std::chrono::seconds(20)));
  CHECK(t.owner.as_service().metrics_text().find("troupe_generations_live{model=\"" + m.card().name + "\"} 0") !=
        std::string::npos);
}

TEST_CASE("stop strings are cut, log-probabilities come with their tokens, a biased token is chosen") {
  tiny t;
  const model m = t.load();
  const std::string text = m.complete("abc", ask(60)).text();
  REQUIRE(text.size() > 20);
  auto options = ask(60);
  std::size_t begin = text.size() / 2;  // of a whole code point
  while ((static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) ++begin;
  std::size_t end = begin + 1;
  while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) ++end;
  options.stop = {text.substr(begin, end - begin)};
  auto stopped = m.complete("abc", options);
  CHECK(stopped.text() == text.substr(0, text.find(options.stop[0])));

  auto biased = ask(10);
  biased.how.logit_bias = {{100, 100.0f}};
  biased.top_logprobs = 3;
  int tokens = 0;
  for (const event& e : m.complete("abc", biased))
    for (const token_logprob& token : e.logprobs) {
      ++tokens;
      CHECK(token.id == 100);
      CHECK(token.top.size() == 3);
      CHECK(token.logprob <= 0.0f);
    }
  CHECK(tokens == 10);
}

TEST_CASE("what is wrong is said at once, or as a failure of the answer") {
  tiny t;
  const model m = t.load();
  CHECK(failure_of([&] { t.owner.load("/no/such/file.gguf"); }).code == errc::not_found);
  CHECK(failure_of([&] { static_cast<void>(m.chat(chat_prompt{})); }).param == "messages");
  CHECK(failure_of([&] { static_cast<void>(m.complete(token_prompt{100'000})); }).param == "prompt");
  const error too_long = failure_of([&] { m.chat(std::string(5000, 'x')).text(); });
  CHECK(too_long.code == errc::context_length_exceeded);
  CHECK(too_long.text.find("512") != std::string::npos);
}

TEST_CASE("a slow reader pauses its generation and then reads all of it") {
  tiny t;
  const model m = t.load();
  const std::string text = m.chat("slowly", ask(300)).text();
  auto slow = m.chat("slowly", ask(300));
  REQUIRE(slow.next());
  CHECK(m.chat("others go on", ask(50)).text().size() > 0);
  CHECK(slow.text() == text);
}

TEST_CASE("when the runtime ends, answers fail instead of hanging") {
  std::optional<generation> left;
  std::optional<model> m;
  {
    tiny t;
    m = t.load();
    left = m->chat("to be continued", ask(400));
    REQUIRE(left->next());
  }
  try {
    left->text();
  } catch (const failure& f) {
    CHECK(f.why().code == errc::shutting_down);
  }
  CHECK(failure_of([&] { static_cast<void>(m->chat("too late")); }).code == errc::shutting_down);
}

TEST_CASE("a pipeline asks a model, rewrites its stream and hands whole answers on") {
  tiny t;
  const model m = t.load();
  struct to_dots {
    void operator()(token_window& window) { window.rewrite(1, "."); }
  };
  const std::vector<std::string> questions = {"one", "two", "three"};
  std::vector<std::string> got;
  const pipeline p = from(questions) >> chat(m, ask(12)) >> hold(3) >> to_dots{} >>
                     on_thread([&](const std::string& answer) { got.push_back(answer); });
  REQUIRE(t.owner.run(p));
  CHECK(got == std::vector<std::string>(3, std::string(12, '.')));

  int deltas = 0, ends = 0;
  REQUIRE(t.owner.run(from(questions) >> chat(m, ask(12)) >> [&](const event& e) {
    deltas += e.what == event::kind::delta;
    ends += e.what == event::kind::done;
  }));
  CHECK(ends == 3);
  CHECK(deltas >= 3);

  std::string last;
  REQUIRE(t.owner.run(from(questions) >> chat(m, ask(4)) >> chat(m, ask(8, 2)) >>
                      [&](std::string answer) { last = answer; }));
  CHECK(last == m.chat(m.chat("three", ask(4)).text(), ask(8, 2)).text());
}
