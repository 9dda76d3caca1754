// The fields of a request, by name: what each must be and where it goes. Knows no document around them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "server/chat_request.hpp"
#include "server/json_fields.hpp"

namespace troupe::server {

/// What is being read, and what only makes sense once all fields are known.
struct reading {
  parsed_request made;
  bool chat = true;  ///< chat's shape of `logprobs`
  bool takes_messages = true, takes_prompt = true;
  bool has_messages = false, has_prompt = false;
  bool wants_logprobs = false;
  std::optional<std::int32_t> top_logprobs;
  std::optional<std::int32_t> max_tokens, max_completion_tokens;
};

/// Reads every field there is into `r`; unknown ones are ignored, as other servers do.
result<void> read_fields(simdjson::dom::object object, reading& r);
/// What only makes sense once all fields are known.
result<parsed_request> finish(reading r);

// --- the two that carry the prompt: message_fields.cpp ---
result<void> read_messages(element e, const std::string& param, reading& r);
result<void> read_prompt(element e, const std::string& param, reading& r);

}  // namespace troupe::server
