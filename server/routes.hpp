// The table of routes: method, path, what runs. Tests and docs/openapi.yaml are checked against it.
// Knows no socket.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace troupe::server {

class exchange;
using handler = void (*)(const std::shared_ptr<exchange>&);

struct route {
  std::string_view method;
  std::string_view path;  ///< may hold one {name}, which matches one part of a path
  handler run;
};

std::span<const route> routes() noexcept;

struct route_match {
  const route* found = nullptr;  ///< null: not found, or `allow` says which methods there are
  std::string parameter;         ///< what {name} matched
  std::string allow;             ///< for a known path with another method
};

/// Paths match byte by byte, undecoded. HEAD is served by GET.
route_match match_route(std::string_view method, std::string_view path);

}  // namespace troupe::server
