// The front door: HTTP, SSE and WebSocket clients of one `service`. Knows no model and no actor.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <troupe/result.hpp>
#include <troupe/service.hpp>

#include "base/machine.hpp"

namespace troupe::server {

struct server_timeouts {
  std::chrono::milliseconds header{10'000};  ///< for a whole request head, then 408
  std::chrono::milliseconds body{30'000};    ///< without a further byte of a body, then 408
  std::chrono::milliseconds idle{60'000};    ///< between two requests; a WebSocket's silence before a ping must answer
  std::chrono::milliseconds stall{30'000};   ///< without a byte leaving for a slow reader, then closed and cancelled
  std::chrono::milliseconds close{5'000};    ///< for a WebSocket's client to take a close frame and answer it
  std::chrono::milliseconds health{1'000};   ///< for the engine to answer /health
};

struct server_options {
  std::string address = "127.0.0.1";
  std::uint16_t port = 8080;                 ///< 0: any free one
  bool allow_remote = false;                 ///< permits an address other than loopback
  std::vector<std::string> allowed_origins;  ///< beside the server's own page
  std::vector<std::string> allowed_hosts;    ///< beside loopback names
  std::uint64_t max_body = 4 << 20;          ///< bytes
  std::size_t max_connections = 10'000;      ///< more wait in the listen queue
  std::size_t max_live_generations = 64;     ///< of one WebSocket
  std::optional<std::size_t> max_per_address =
      {};  ///< connections, kept and WebSocket generations; none: 256, over loopback any number
  std::function<base::memory_limits()> read_memory = {};  ///< empty: what the kernel says
  int threads = 1;
  server_timeouts timeouts;
};

class http_server {
public:
  /// Listens and serves on its own threads. `engine` must outlive the server. Errors: invalid_argument (address, or a
  /// remote one without allow_remote), io (port taken, not permitted).
  static result<std::unique_ptr<http_server>> start(service& engine, server_options options);

  /// Ends at once what still runs.
  ~http_server();
  http_server(const http_server&) = delete;
  http_server& operator=(const http_server&) = delete;

  std::uint16_t port() const noexcept;

  /// Stops accepting, closes idle connections, lets running answers end until the deadline, then cuts the rest.
  /// Blocks; afterwards nothing is served. Once.
  void drain(std::chrono::milliseconds deadline);

private:
  struct parts;
  explicit http_server(std::unique_ptr<parts> all);
  std::unique_ptr<parts> all_;
};

}  // namespace troupe::server
