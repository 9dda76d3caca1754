// Troupe's own event shapes, the same for WebSocket frames and SSE events; docs/websocket-protocol.md describes them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <troupe/event.hpp>
#include <troupe/service.hpp>

namespace troupe::server {

std::string generation_name(generation_id id);                      ///< "gen-" and 16 hex digits
std::optional<generation_id> generation_of(std::string_view name);  ///< nothing for any other spelling

std::string_view event_name(event::kind kind) noexcept;  ///< "started", "delta", "done", "error"

/// {"type":..., "id": `id`, ...}. `model` goes into `started`, where it is not empty.
std::string event_json(const event& e, std::string_view id, std::string_view model);
/// An error frame; "id" is left out where empty.
std::string error_frame(const error& why, std::string_view id);

}  // namespace troupe::server
