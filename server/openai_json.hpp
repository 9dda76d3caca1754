// Answers in OpenAI's shapes, whole and in chunks. Knows no socket and no request.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include <troupe/event.hpp>
#include <troupe/service.hpp>

namespace troupe::server {

enum class dialect { chat, completion };

/// What every chunk of one answer repeats.
struct answer_head {
  dialect shape = dialect::chat;
  std::string id;  ///< "chatcmpl-..." or "cmpl-..."
  std::int64_t created = 0;
  std::string model;
  bool with_usage = false;  ///< chunks carry "usage": null until the last one
  bool with_logprobs = false;
};

/// The whole answer: `logprobs` are those of all deltas in order.
std::string whole_answer(const answer_head& head, std::string_view text, std::span<const token_logprob> logprobs,
                         finish_reason reason, const usage& used);

std::string first_chunk(const answer_head& head);  ///< chat only: the role
/// `text_offset`: code points of text before this one (completion's `text_offset`).
std::string delta_chunk(const answer_head& head, const event& e, std::size_t text_offset);
std::string last_chunk(const answer_head& head, finish_reason reason);
std::string usage_chunk(const answer_head& head, const usage& used);

std::string model_object(const model_card& card);
std::string model_list(std::span<const model_card> cards);

std::size_t code_points(std::string_view utf8) noexcept;

}  // namespace troupe::server
