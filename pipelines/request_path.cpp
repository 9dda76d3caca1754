// What each part of a path adds to a draft, or refuses.
#include "pipelines/request_path.hpp"

#include <algorithm>
#include <random>

#include "actors/tokenizer/request_check.hpp"

namespace troupe::pipelines {

path<asked, accepted> accept_chat() {
  return {[](generation_draft& draft) -> result<void> {
    if (!std::holds_alternative<chat_prompt>(draft.what.prompt))
      return error{errc::invalid_argument, "a chat needs messages", "messages"};
    return actors::check_request(draft.what);
  }};
}

path<asked, accepted> accept_completion() {
  return {[](generation_draft& draft) -> result<void> {
    if (std::holds_alternative<chat_prompt>(draft.what.prompt))
      return error{errc::invalid_argument, "a completion needs a text or token ids", "prompt"};
    return actors::check_request(draft.what);
  }};
}

path<accepted, encoded> encode(const path_ends& model) {
  return {[model](generation_draft& draft) -> result<void> {
    const auto outside = [&](std::int32_t id) { return id < 0 || id >= model.vocabulary; };
    if (const auto* ids = std::get_if<token_prompt>(&draft.what.prompt))
      if (std::any_of(ids->begin(), ids->end(), outside))
        return error{errc::invalid_argument, "prompt has a token id that this model does not know", "prompt"};
    for (const auto& [id, bias] : draft.what.how.logit_bias)
      if (outside(id))
        return error{errc::invalid_argument, "logit_bias has a token id that this model does not know", "logit_bias"};
    return {};
  }};
}

path<encoded, sampled> generate() {
  return {[](generation_draft& draft) -> result<void> {
    if (!draft.what.how.seed) draft.what.how.seed = random_bits();
    return {};
  }};
}

path<sampled, assembled> assemble(std::shared_ptr<const operator_chain> operators) {
  return {[operators = std::move(operators)](generation_draft& draft) -> result<void> {
    draft.operators = operators;
    return {};
  }};
}

path<assembled, subscribed> subscribers(std::shared_ptr<event_sink> first, std::uint32_t credit, bool keep) {
  return {[first = std::move(first), credit, keep](generation_draft& draft) -> result<void> {
    if (!first && !keep) return error{errc::invalid_argument, "a generation that nobody watches must be kept", {}};
    draft.sink = first;
    draft.credit = credit;
    draft.keep = keep;
    return {};
  }};
}

std::uint64_t random_bits() {
  thread_local std::random_device source;  // reads the operating system's generator each time
  while (true) {
    const std::uint64_t bits = (static_cast<std::uint64_t>(source()) << 32) | source();
    if (bits != 0) return bits;
  }
}

}  // namespace troupe::pipelines
