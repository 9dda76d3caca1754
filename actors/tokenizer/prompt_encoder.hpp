// A request to token ids and terms for the scheduler: template, tokenizer, and the checks that need a model.
// Knows no queue and no actor. Immutable: any thread may encode.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include <troupe/request.hpp>
#include <troupe/result.hpp>

#include "actors/step_plan.hpp"
#include "models/chat_template/chat_template.hpp"
#include "models/tokenizer/tokenizer.hpp"

namespace troupe::actors {

struct encoded_prompt {
  std::shared_ptr<const sequence_terms> terms;  ///< max_tokens clamped to the context; seed set
  std::shared_ptr<const std::vector<std::int32_t>> ids;
};

class prompt_encoder {
public:
  prompt_encoder(std::shared_ptr<const models::tokenizer> tokens, models::chat_template chat,
                 std::int32_t context_length);

  /// Errors: invalid_argument (an id outside the vocabulary, the template's own complaint, a prompt of no tokens),
  /// context_length_exceeded with both numbers. A text prompt is encoded as it is, and an empty one is the model's
  /// begin token. Without a seed the generation's random id is the seed.
  result<encoded_prompt> encode(generation_id id, const request& what, std::chrono::system_clock::time_point now) const;

  std::int32_t context_length() const noexcept { return context_length_; }

private:
  result<std::vector<std::int32_t>> ids_of(const request& what, std::chrono::system_clock::time_point now) const;
  result<std::vector<std::int32_t>> ids_of_chat(const chat_prompt& messages,
                                                std::chrono::system_clock::time_point now) const;
  result<void> check_ids(const request& what) const;
  result<void> check_length(std::size_t count) const;
  void add_bos(std::vector<std::int32_t>& ids) const;

  std::shared_ptr<const models::tokenizer> tokens_;
  models::chat_template chat_;
  std::int32_t context_length_;
  std::vector<std::int32_t> end_ids_;
  std::size_t most_counted_;  // encoding stops here: the error then says "more than"
};

}  // namespace troupe::actors
