// One answer, streamed to stdout.
#include "cli/answer.hpp"

#include <cstdio>
#include <iostream>

namespace troupe::cli {
namespace {

std::string figures(const event& done) {
  char text[160];
  const std::int32_t tokens = done.usage.completion_tokens;
  const double rest_ms = done.timing.total_ms - done.timing.first_token_ms;
  std::snprintf(text, sizeof text, "%d tokens, first after %.0f ms", tokens, done.timing.first_token_ms);
  std::string all = text;
  if (tokens > 1 && rest_ms > 0) {
    std::snprintf(text, sizeof text, ", %.1f tokens/s", (tokens - 1) / rest_ms * 1000);
    all += text;
  }
  if (done.reason == finish_reason::length) all += ", cut at the token limit";
  if (done.reason == finish_reason::cancelled) all += ", stopped";
  return all;
}

}  // namespace

ask_options to_ask(const answer_options& o) {
  ask_options ask;
  ask.how.temperature = o.temperature;
  ask.how.top_p = o.top_p;
  ask.how.top_k = o.top_k;
  ask.how.seed = o.seed;
  ask.max_tokens = o.max_tokens;
  return ask;
}

answered stream_answer(generation& answer) {
  answered all;
  for (const event& e : answer) {
    std::cout << e.text << std::flush;
    all.text += e.text;
    if (e.what != event::kind::done) continue;
    all.reason = e.reason;
    all.figures = figures(e);
  }
  return all;
}

}  // namespace troupe::cli
