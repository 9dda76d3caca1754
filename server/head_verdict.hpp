// What becomes of a request by its head alone: a route, or an answer that needs none.
// Pure functions; knows no socket and no body.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/clock.hpp"
#include "server/exchange.hpp"
#include "server/memory_watch.hpp"
#include "server/request_guard.hpp"
#include "server/request_head.hpp"
#include "server/routes.hpp"

namespace troupe::server {

struct verdict {
  const route* found = nullptr;  ///< null and no refusal: a preflight
  std::string parameter = {};
  std::optional<refusal> no = {};
};

/// The guard's checks, then the route: 404, 405 with the methods there are, or 501 where the method is none that HTTP
/// knows. 503 for a POST where memory is low.
verdict judge(const request_head& head, bool known_method, const access_rules& rules, memory_level memory);

/// A body follows, or may.
bool announces_body(const request_head& head);

/// A page elsewhere asks whether it may call: only origins named at start may.
reply preflight_reply(const request_head& head, const access_rules& rules);

/// The request's Origin where it is one of those; else empty.
std::string_view listed_origin(const request_head& head, const access_rules& rules);

/// A line of the log: method, path, status, milliseconds.
void log_answer(const request_head& head, int status, base::clock::duration spent);

}  // namespace troupe::server
