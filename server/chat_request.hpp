// A client's JSON as a request: field names, types and limits are checked here, each error names its field.
// Knows no socket, no model and no vocabulary.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <troupe/request.hpp>
#include <troupe/result.hpp>

namespace troupe::server {

struct parsed_request {
  std::string model;  ///< "" where absent
  request what;
  bool stream = false;
  bool include_usage = false;
};

/// Cost: one pass over the body; memory in proportion to it; nesting over 32 is refused without recursion.
result<parsed_request> parse_chat(std::string_view body);        ///< /v1/chat/completions
result<parsed_request> parse_completion(std::string_view body);  ///< /v1/completions
result<parsed_request> parse_generation(std::string_view body);  ///< /v1/generations: `messages` or `prompt`

/// One text frame of /v1/stream.
struct client_message {
  enum class kind { generate, cancel, unreadable };
  kind what = kind::unreadable;
  std::string id;      ///< the client's own; "" where it could not be read
  parsed_request ask;  ///< generate
  error wrong;         ///< unreadable
};
client_message parse_client_message(std::string_view frame);

}  // namespace troupe::server
