// HTTP/1.1 answers as bytes: heads, chunks, the fields every answer carries. Knows no socket.
#pragma once

#include <string>
#include <string_view>

#include "server/exchange.hpp"

namespace troupe::server {

struct response_facts {
  std::string_view request_id;
  std::string_view allow_origin;  ///< empty: no CORS fields
  bool keep_alive = true;
  bool head_only = false;  ///< HEAD: the body's length, not the body
};

std::string whole_response(const reply& whole, const response_facts& facts);
std::string stream_response_head(std::string_view content_type, bool chunked, const response_facts& facts);
/// One piece of a streamed body.
void append_part(std::string& out, std::string_view part, bool chunked);

/// The client's own x-request-id where it is 1 to 128 harmless characters, else a fresh one.
std::string request_id_for(const request_head& head);

}  // namespace troupe::server
