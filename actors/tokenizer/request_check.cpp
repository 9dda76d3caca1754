// One line per field. Comparisons are written so that NaN fails them.
#include "actors/tokenizer/request_check.hpp"

#include <algorithm>
#include <array>
#include <string_view>

#include "models/tokenizer/code_point.hpp"

namespace troupe::actors {
namespace {

constexpr std::size_t most_stops = 16, longest_stop = 256, most_biases = 1024;
constexpr std::array<std::string_view, 5> roles = {"system", "developer", "user", "assistant", "tool"};

error wrong(std::string param, std::string text) {
  error e{errc::invalid_argument, std::move(text), std::move(param)};
  e.text = e.param + " " + e.text;
  return e;
}

std::string indexed(std::string_view name, std::size_t i) { return std::string(name) + "[" + std::to_string(i) + "]"; }

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const models::code_point c = models::read_code_point(text);
    if (!c.valid) return false;
    text.remove_prefix(c.length);
  }
  return true;
}

result<void> check_messages(const chat_prompt& messages) {
  if (messages.empty()) return wrong("messages", "must have at least one message");
  for (std::size_t i = 0; i < messages.size(); ++i)
    if (std::find(roles.begin(), roles.end(), messages[i].role) == roles.end())
      return wrong(indexed("messages", i) + ".role", "must be system, developer, user, assistant or tool");
  return {};
}

result<void> check_stops(const std::vector<std::string>& stops) {
  if (stops.size() > most_stops) return wrong("stop", "may have at most 16 strings");
  for (std::size_t i = 0; i < stops.size(); ++i) {
    if (stops[i].empty() || stops[i].size() > longest_stop)
      return wrong(indexed("stop", i), "must have 1 to 256 bytes");
    if (!is_utf8(stops[i])) return wrong(indexed("stop", i), "must be UTF-8");
  }
  return {};
}

result<void> check_sampling(const sampling& how) {
  if (!(how.temperature >= 0 && how.temperature <= 2)) return wrong("temperature", "must be 0 to 2");
  if (how.top_k < 0) return wrong("top_k", "must be at least 0");
  if (!(how.top_p > 0 && how.top_p <= 1)) return wrong("top_p", "must be over 0 and at most 1");
  if (!(how.min_p >= 0 && how.min_p <= 1)) return wrong("min_p", "must be 0 to 1");
  if (!(how.repetition_penalty > 0 && how.repetition_penalty <= 10))
    return wrong("repetition_penalty", "must be over 0 and at most 10");
  if (!(how.presence_penalty >= -2 && how.presence_penalty <= 2)) return wrong("presence_penalty", "must be -2 to 2");
  if (!(how.frequency_penalty >= -2 && how.frequency_penalty <= 2))
    return wrong("frequency_penalty", "must be -2 to 2");
  if (how.logit_bias.size() > most_biases) return wrong("logit_bias", "may have at most 1,024 entries");
  for (const auto& [id, bias] : how.logit_bias)
    if (!(bias >= -100 && bias <= 100)) return wrong("logit_bias", "values must be -100 to 100");
  return {};
}

}  // namespace

result<void> check_request(const request& what) {
  if (const auto* messages = std::get_if<chat_prompt>(&what.prompt))
    if (auto ok = check_messages(*messages); !ok) return ok;
  if (const auto* ids = std::get_if<token_prompt>(&what.prompt); ids && ids->empty())
    return wrong("prompt", "must have at least one token");
  if (auto ok = check_sampling(what.how); !ok) return ok;
  if (auto ok = check_stops(what.stop); !ok) return ok;
  if (what.max_tokens && *what.max_tokens < 1) return wrong("max_tokens", "must be at least 1");
  if (what.top_logprobs < -1 || what.top_logprobs > 20) return wrong("top_logprobs", "must be 0 to 20");
  return {};
}

}  // namespace troupe::actors
