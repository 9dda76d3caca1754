// The one table from errc to what a client sees: HTTP status, OpenAI's error type and code, WebSocket close code.
// Knows no socket.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <troupe/result.hpp>

namespace troupe::server {

struct error_row {
  int status = 500;
  std::string_view type;            ///< OpenAI's `error.type`
  std::uint16_t close_code = 1011;  ///< where the whole WebSocket must end for it
};

/// Total over errc.
error_row row_of(errc code) noexcept;

/// {"error":{"message","type","param","code"}}
std::string error_body(const error& e);
/// The object inside: for WebSocket frames and SSE error events.
std::string error_object(const error& e);

/// The standard reason phrase, or "Error".
std::string_view reason_phrase(int status) noexcept;

}  // namespace troupe::server
