// Field order and names as OpenAI's API reference gives them (chat completions and legacy completions).
#include "server/openai_json.hpp"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/json_writer.hpp"

namespace troupe::server {
namespace {

using base::json_writer;

/// JSON has no infinity; OpenAI writes this for what cannot happen.
float finite(float logprob) { return std::isfinite(logprob) ? logprob : -9999.0f; }

void write_token(json_writer& json, std::string_view bytes, float logprob) {
  json.field("token", bytes).field("logprob", finite(logprob)).key("bytes").begin_array();
  for (char c : bytes) json.value(static_cast<int>(static_cast<unsigned char>(c)));
  json.end_array();
}

void write_chat_logprobs(json_writer& json, std::span<const token_logprob> tokens) {
  json.begin_object().key("content").begin_array();
  for (const auto& token : tokens) {
    json.begin_object();
    write_token(json, token.bytes, token.logprob);
    json.key("top_logprobs").begin_array();
    for (const auto& [bytes, logprob] : token.top) {
      json.begin_object();
      write_token(json, bytes, logprob);
      json.end_object();
    }
    json.end_array().end_object();
  }
  json.end_array().key("refusal").null().end_object();
}

void write_completion_logprobs(json_writer& json, std::span<const token_logprob> tokens, std::size_t offset) {
  json.begin_object().key("tokens").begin_array();
  for (const auto& token : tokens) json.value(token.bytes);
  json.end_array().key("token_logprobs").begin_array();
  for (const auto& token : tokens) json.value(finite(token.logprob));
  json.end_array().key("top_logprobs").begin_array();
  for (const auto& token : tokens) {
    json.begin_object();
    std::set<std::string> written;  // broken bytes may read alike: a JSON object must not repeat a name
    for (const auto& [bytes, logprob] : token.top) {
      std::string name;
      base::append_json_string(name, bytes);
      if (written.insert(std::move(name)).second) json.field(bytes, finite(logprob));
    }
    json.end_object();
  }
  json.end_array().key("text_offset").begin_array();
  for (const auto& token : tokens) {
    json.value(offset);
    offset += code_points(token.bytes);
  }
  json.end_array().end_object();
}

void write_logprobs(json_writer& json, const answer_head& head, std::span<const token_logprob> tokens,
                    std::size_t offset) {
  json.key("logprobs");
  if (!head.with_logprobs) json.null();
  else if (head.shape == dialect::chat) write_chat_logprobs(json, tokens);
  else write_completion_logprobs(json, tokens, offset);
}

void write_usage(json_writer& json, const usage& used) {
  json.key("usage")
      .begin_object()
      .field("prompt_tokens", used.prompt_tokens)
      .field("completion_tokens", used.completion_tokens);
  json.field("total_tokens", std::int64_t{used.prompt_tokens} + used.completion_tokens);
  json.key("prompt_tokens_details").begin_object().field("cached_tokens", used.cached_tokens).end_object().end_object();
}

void open(json_writer& json, const answer_head& head, bool chunk) {
  const bool chat = head.shape == dialect::chat;
  json.begin_object().field("id", head.id);
  json.field("object", !chat ? "text_completion" : chunk ? "chat.completion.chunk" : "chat.completion");
  json.field("created", head.created).field("model", head.model).field("system_fingerprint", "troupe-" TROUPE_VERSION);
}

/// A chunk with one choice: `inside` writes the choice's own fields.
template <class Inside>
std::string chunk(const answer_head& head, const char* reason, Inside inside) {
  std::string out;
  json_writer json(out);
  open(json, head, true);
  json.key("choices").begin_array().begin_object().field("index", 0);
  inside(json);
  json.key("finish_reason");
  if (reason) json.value(reason);
  else json.null();
  json.end_object().end_array();
  if (head.with_usage) json.key("usage").null();
  json.end_object();
  return out;
}

void write_model(json_writer& json, const model_card& card) {
  json.begin_object()
      .field("id", card.name)
      .field("object", "model")
      .field("created", card.created)
      .field("owned_by", "troupe");
  json.field("context_length", card.context_length).field("vocabulary", card.vocabulary).end_object();
}

const char* name_of(finish_reason reason) {
  return reason == finish_reason::length ? "length" : reason == finish_reason::cancelled ? "cancelled" : "stop";
}

}  // namespace

std::size_t code_points(std::string_view utf8) noexcept {
  return static_cast<std::size_t>(std::count_if(utf8.begin(), utf8.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string whole_answer(const answer_head& head, std::string_view text, std::span<const token_logprob> logprobs,
                         finish_reason reason, const usage& used) {
  std::string out;
  json_writer json(out);
  open(json, head, false);
  json.key("choices").begin_array().begin_object().field("index", 0);
  if (head.shape == dialect::chat)
    json.key("message")
        .begin_object()
        .field("role", "assistant")
        .field("content", text)
        .key("refusal")
        .null()
        .end_object();
  else json.field("text", text);
  write_logprobs(json, head, logprobs, 0);
  json.field("finish_reason", name_of(reason)).end_object().end_array();
  write_usage(json, used);
  json.end_object();
  return out;
}

std::string first_chunk(const answer_head& head) {
  return chunk(head, nullptr, [](json_writer& json) {
    json.key("delta")
        .begin_object()
        .field("role", "assistant")
        .field("content", "")
        .key("refusal")
        .null()
        .end_object()
        .key("logprobs")
        .null();
  });
}

std::string delta_chunk(const answer_head& head, const event& e, std::size_t text_offset) {
  return chunk(head, nullptr, [&](json_writer& json) {
    if (head.shape == dialect::chat) json.key("delta").begin_object().field("content", e.text).end_object();
    else json.field("text", e.text);
    write_logprobs(json, head, e.logprobs, text_offset);
  });
}

std::string last_chunk(const answer_head& head, finish_reason reason) {
  return chunk(head, name_of(reason), [&](json_writer& json) {
    if (head.shape == dialect::chat) json.key("delta").begin_object().end_object();
    else json.field("text", "");
    json.key("logprobs").null();
  });
}

std::string usage_chunk(const answer_head& head, const usage& used) {
  std::string out;
  json_writer json(out);
  open(json, head, true);
  json.key("choices").begin_array().end_array();
  write_usage(json, used);
  json.end_object();
  return out;
}

std::string model_object(const model_card& card) {
  std::string out;
  json_writer json(out);
  write_model(json, card);
  return out;
}

std::string model_list(std::span<const model_card> cards) {
  std::string out;
  json_writer json(out);
  json.begin_object().field("object", "list").key("data").begin_array();
  for (const auto& card : cards) write_model(json, card);
  json.end_array().end_object();
  return out;
}

}  // namespace troupe::server
