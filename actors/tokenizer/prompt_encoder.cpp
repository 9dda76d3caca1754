// Encoding and its checks.
#include "actors/tokenizer/prompt_encoder.hpp"

#include <algorithm>
#include <string>

namespace troupe::actors {
namespace {

// 9000 -> "9,000"
std::string grouped(std::size_t n) {
  std::string digits = std::to_string(n);
  for (std::size_t at = digits.size(); at > 3;) digits.insert(at -= 3, ",");
  return digits;
}

std::string_view text_of(const models::tokenizer& tokens, std::optional<std::int32_t> id) {
  return id ? tokens.token_bytes(*id) : std::string_view();
}

}  // namespace

prompt_encoder::prompt_encoder(std::shared_ptr<const models::tokenizer> tokens, models::chat_template chat,
                               std::int32_t context_length)
    : tokens_(std::move(tokens)), chat_(std::move(chat)), context_length_(context_length),
      most_counted_(static_cast<std::size_t>(std::max(context_length, 0)) * 8 + 65'536) {
  for (std::int32_t id = 0; id < tokens_->size(); ++id)
    if (tokens_->is_end(id)) end_ids_.push_back(id);
}

result<encoded_prompt> prompt_encoder::encode(generation_id id, const request& what,
                                              std::chrono::system_clock::time_point now) const {
  if (auto ok = check_ids(what); !ok) return ok.why();
  auto ids = ids_of(what, now);
  if (ids)
    if (auto ok = check_length(ids->size()); !ok) ids = ok.why();
  if (!ids) {
    error why = ids.why();
    if (why.param.empty()) why.param = std::holds_alternative<chat_prompt>(what.prompt) ? "messages" : "prompt";
    return why;
  }
  if (ids->empty()) return error{errc::invalid_argument, "the prompt has no tokens", "prompt"};

  auto terms = std::make_shared<sequence_terms>();
  terms->generation = id;
  terms->how = what.how;
  if (!terms->how.seed) terms->how.seed = id;
  if (!what.ignore_eos) terms->end_ids = end_ids_;
  const std::int32_t left = context_length_ - static_cast<std::int32_t>(ids->size());
  terms->max_tokens = std::min(what.max_tokens.value_or(left), left);
  terms->top_logprobs = what.top_logprobs;
  return encoded_prompt{std::move(terms), std::make_shared<const std::vector<std::int32_t>>(std::move(*ids))};
}

result<std::vector<std::int32_t>> prompt_encoder::ids_of(const request& what,
                                                         std::chrono::system_clock::time_point now) const {
  if (const auto* messages = std::get_if<chat_prompt>(&what.prompt)) return ids_of_chat(*messages, now);
  if (const auto* ids = std::get_if<token_prompt>(&what.prompt)) return *ids;
  auto ids = tokens_->encode(std::get<text_prompt>(what.prompt), false, most_counted_);
  if (!ids) return check_length(most_counted_ + 1).why();
  if (tokens_->add_bos() || ids->empty()) add_bos(*ids);
  return ids;
}

result<std::vector<std::int32_t>> prompt_encoder::ids_of_chat(const chat_prompt& messages,
                                                              std::chrono::system_clock::time_point now) const {
  std::vector<models::chat_message_view> views;
  views.reserve(messages.size());
  for (const chat_message& m : messages) views.push_back({m.role, m.content});
  const auto context =
      models::make_chat_context(views, true, text_of(*tokens_, tokens_->bos()), text_of(*tokens_, tokens_->eos()));
  auto rendered = chat_.render(context, now);
  if (!rendered) return rendered.why();
  std::vector<models::text_span> spans;
  spans.reserve(rendered->size());
  for (const models::rendered_span& span : *rendered) spans.push_back({span.text, span.trusted});
  auto ids = tokens_->encode(spans, most_counted_);
  if (!ids) return check_length(most_counted_ + 1).why();
  if (tokens_->add_bos()) add_bos(*ids);
  return ids;
}

// Once: a template may have written it already.
void prompt_encoder::add_bos(std::vector<std::int32_t>& ids) const {
  const auto bos = tokens_->bos();
  if (bos && (ids.empty() || ids.front() != *bos)) ids.insert(ids.begin(), *bos);
}

result<void> prompt_encoder::check_ids(const request& what) const {
  const auto outside = [this](std::int32_t id) { return id < 0 || id >= tokens_->size(); };
  const auto complaint = [this](std::string param, std::int32_t id) {
    return error{errc::invalid_argument,
                 param + " has the token id " + std::to_string(id) + ", but ids of this model are 0 to " +
                     std::to_string(tokens_->size() - 1),
                 param};
  };
  for (const auto& [id, bias] : what.how.logit_bias)
    if (outside(id)) return complaint("logit_bias", id);
  if (const auto* ids = std::get_if<token_prompt>(&what.prompt))
    for (std::int32_t id : *ids)
      if (outside(id)) return complaint("prompt", id);
  return {};
}

// One token at least must fit behind the prompt.
result<void> prompt_encoder::check_length(std::size_t count) const {
  if (count < static_cast<std::size_t>(std::max(context_length_, 0))) return {};
  const std::string said = count > most_counted_ ? "more than " + grouped(most_counted_) : grouped(count);
  return error{errc::context_length_exceeded,
               "the prompt has " + said + " tokens, the context of this model is " +
                   grouped(static_cast<std::size_t>(context_length_)),
               {}};
}

}  // namespace troupe::actors
