// Checks in order, then the table of routes.
#include "server/head_verdict.hpp"

#include <algorithm>
#include <utility>

#include "base/log.hpp"
#include "server/server_state.hpp"

namespace troupe::server {

bool announces_body(const request_head& head) {
  return head.count("transfer-encoding") > 0 ||
         (head.count("content-length") > 0 && head.field("content-length") != "0");
}

verdict judge(const request_head& head, bool known_method, const access_rules& rules, memory_level memory) {
  if (auto no = check_framing(head, rules.max_body)) return {.no = std::move(no)};
  if (auto no = check_access(head, rules)) return {.no = std::move(no)};
  if (head.method == "OPTIONS") return {};
  auto match = match_route(head.method, head.path());
  if (!match.found && !match.allow.empty())
    return {.no = refusal{405,
                          {errc::unsupported, "This path is served with " + match.allow + ".", {}},
                          announces_body(head),
                          match.allow}};
  if (!match.found && !known_method) return {.no = refusal{501, {errc::unsupported, "This method is unknown.", {}}}};
  if (!match.found)
    return {.no = refusal{404, {errc::not_found, "Nothing is served at this path.", {}}, announces_body(head)}};
  if (head.method == "POST") {
    if (auto no = check_content(head)) return {.no = std::move(no)};
    if (memory != memory_level::enough) return {.no = refusal{503, server_state::memory_is_low()}};
  }
  return {match.found, std::move(match.parameter), {}};
}

std::string_view listed_origin(const request_head& head, const access_rules& rules) {
  const auto origin = head.field("origin");
  return std::find(rules.origins.begin(), rules.origins.end(), origin) == rules.origins.end() ? std::string_view()
                                                                                              : origin;
}

reply preflight_reply(const request_head& head, const access_rules& rules) {
  const auto match = match_route("", head.path());
  reply told{.status = 204, .fields = {{"Allow", match.allow + ", OPTIONS"}}};
  if (!listed_origin(head, rules).empty())
    told.fields.insert(told.fields.end(),
                       {{"Access-Control-Allow-Methods", match.allow},
                        {"Access-Control-Allow-Headers", "content-type, authorization, last-event-id, x-request-id"}});
  return told;
}

void log_answer(const request_head& head, int status, base::clock::duration spent) {
  base::log(base::log_level::info, "http",
            head.method + " " + std::string(head.path().substr(0, 200)) + " " + std::to_string(status) + " " +
                std::to_string(static_cast<long>(base::to_milliseconds(spent))) + " ms");
}

}  // namespace troupe::server
