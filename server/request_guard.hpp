// Refuses a request by its head alone, before any body byte is read: broken framing, foreign Hosts and Origins.
// Pure functions; knows no socket, no route and no body.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <troupe/result.hpp>

#include "server/request_head.hpp"

namespace troupe::server {

/// Why a request is answered without being run. Everything refused for its framing also loses its connection.
struct refusal {
  int status = 400;
  error why;
  bool close = true;
  std::string allow = {};  ///< the Allow field of a 405
};

/// Who may ask. Loopback names and addresses are always allowed as Host.
struct access_rules {
  bool any_address = false;          ///< other IP literals too: listening beyond loopback was asked for by name
  std::vector<std::string> hosts;    ///< further Host values, with or without port
  std::vector<std::string> origins;  ///< further web origins, exactly as browsers send them
  std::uint64_t max_body = 0;        ///< bytes
};

/// Framing: version, target, Host, Content-Length against Transfer-Encoding, number of fields.
std::optional<refusal> check_framing(const request_head& head, std::uint64_t max_body);

/// DNS rebinding and cross-site requests: Host must be ours; an Origin must be ours where the request is a WebSocket
/// handshake or changes state.
std::optional<refusal> check_access(const request_head& head, const access_rules& rules);

/// A POST's Content-Type must be application/json, its Content-Encoding none.
std::optional<refusal> check_content(const request_head& head);

bool is_loopback_host(std::string_view host) noexcept;  ///< localhost, 127.x.x.x or [::1], port or not

}  // namespace troupe::server
