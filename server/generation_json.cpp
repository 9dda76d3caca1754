// Writes the events of troupe.v1.
#include "server/generation_json.hpp"

#include <charconv>

#include "base/json_writer.hpp"
#include "server/error_table.hpp"

namespace troupe::server {
namespace {

using base::json_writer;

void write_logprobs(json_writer& json, const std::vector<token_logprob>& tokens) {
  const auto bytes_of = [&](std::string_view bytes) {
    json.key("bytes").begin_array();
    for (char c : bytes) json.value(static_cast<int>(static_cast<unsigned char>(c)));
    json.end_array();
  };
  json.key("logprobs").begin_array();
  for (const auto& token : tokens) {
    json.begin_object().field("token_id", token.id).field("token", token.bytes).field("logprob", token.logprob);
    bytes_of(token.bytes);
    json.key("top").begin_array();
    for (std::size_t i = 0; i < token.top.size(); ++i) {
      json.begin_object();
      if (i < token.top_ids.size()) json.field("token_id", token.top_ids[i]);
      json.field("token", token.top[i].first).field("logprob", token.top[i].second);
      bytes_of(token.top[i].first);
      json.end_object();
    }
    json.end_array().end_object();
  }
  json.end_array();
}

void write_done(json_writer& json, const event& e) {
  json.field("offset", e.next_offset);
  json.field("finish_reason", e.reason == finish_reason::length      ? "length"
                              : e.reason == finish_reason::cancelled ? "cancelled"
                                                                     : "stop");
  json.key("usage")
      .begin_object()
      .field("prompt_tokens", e.usage.prompt_tokens)
      .field("cached_tokens", e.usage.cached_tokens);
  json.field("completion_tokens", e.usage.completion_tokens);
  json.field("total_tokens", std::int64_t{e.usage.prompt_tokens} + e.usage.completion_tokens).end_object();
  json.key("timing")
      .begin_object()
      .field("queued_ms", e.timing.queued_ms)
      .field("first_token_ms", e.timing.first_token_ms);
  json.field("total_ms", e.timing.total_ms).end_object();
}

}  // namespace

std::string generation_name(generation_id id) {
  constexpr char digits[] = "0123456789abcdef";
  std::string name = "gen-0000000000000000";
  for (std::size_t at = name.size(); id != 0; id >>= 4) name[--at] = digits[id & 15];
  return name;
}

std::optional<generation_id> generation_of(std::string_view name) {
  generation_id id = 0;
  if (name.size() != 20 || name.substr(0, 4) != "gen-") return {};
  const auto [end, problem] = std::from_chars(name.data() + 4, name.data() + 20, id, 16);
  if (problem != std::errc() || end != name.data() + 20 || id == 0 || generation_name(id) != name) return {};
  return id;
}

std::string_view event_name(event::kind kind) noexcept {
  switch (kind) {
    case event::kind::started: return "started";
    case event::kind::delta: return "delta";
    case event::kind::done: return "done";
    case event::kind::failed: return "error";
  }
  return "error";
}

std::string event_json(const event& e, std::string_view id, std::string_view model) {
  if (e.what == event::kind::failed) return error_frame(e.why, id);
  std::string out;
  json_writer json(out);
  json.begin_object().field("type", event_name(e.what)).field("id", id);
  if (e.what == event::kind::started) {
    json.field("generation", generation_name(e.generation));
    if (!model.empty()) json.field("model", model);
    json.field("prompt_tokens", e.usage.prompt_tokens);
  } else if (e.what == event::kind::delta) {
    json.field("offset", e.offset).field("next_offset", e.next_offset).field("text", e.text);
    if (!e.logprobs.empty()) write_logprobs(json, e.logprobs);
  } else {
    write_done(json, e);
  }
  json.end_object();
  return out;
}

std::string error_frame(const error& why, std::string_view id) {
  std::string out;
  json_writer json(out);
  json.begin_object().field("type", "error");
  if (!id.empty()) json.field("id", id);
  json.key("error").raw(error_object(why)).end_object();
  return out;
}

}  // namespace troupe::server
