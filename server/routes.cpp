// The table, and how a path finds its row.
#include "server/routes.hpp"

#include "server/handlers.hpp"

namespace troupe::server {
namespace {

constexpr route table[] = {
    {"POST", "/v1/chat/completions", complete_chat},
    {"POST", "/v1/completions", complete_text},
    {"GET", "/v1/models", list_models},
    {"GET", "/v1/models/{model}", show_model},
    {"GET", "/v1/stream", open_websocket},
    {"POST", "/v1/generations", open_generation},
    {"GET", "/v1/generations/{id}/events", watch_generation},
    {"DELETE", "/v1/generations/{id}", cancel_generation},
    {"GET", "/health", show_health},
    {"GET", "/metrics", show_metrics},
    {"GET", "/", show_page},
    {"GET", "/{asset}", show_page},
};

/// Whether `path` fits `pattern`; `parameter` gets what its {name} matched: one part, not empty, without a slash.
bool fits(std::string_view pattern, std::string_view path, std::string& parameter) {
  const auto open = pattern.find('{');
  if (open == pattern.npos) return pattern == path;
  const auto tail = pattern.substr(pattern.find('}') + 1);
  if (path.size() <= open + tail.size() || path.substr(0, open) != pattern.substr(0, open)) return false;
  if (path.substr(path.size() - tail.size()) != tail) return false;
  const auto part = path.substr(open, path.size() - open - tail.size());
  if (part.find('/') != part.npos) return false;
  parameter = part;
  return true;
}

}  // namespace

std::span<const route> routes() noexcept { return table; }

route_match match_route(std::string_view method, std::string_view path) {
  route_match match;
  const auto wanted = method == "HEAD" ? std::string_view("GET") : method;
  std::string_view first;  // only rows of the first fitting path count: /metrics is no {asset}
  for (const auto& row : table) {
    if (!first.empty() && row.path != first) continue;
    if (!fits(row.path, path, match.parameter)) continue;
    if (row.method == wanted) {
      match.found = &row;
      return match;
    }
    first = row.path;
    if (!match.allow.empty()) match.allow += ", ";
    match.allow += row.method;
    if (row.method == "GET") match.allow += ", HEAD";
  }
  return match;
}

}  // namespace troupe::server
