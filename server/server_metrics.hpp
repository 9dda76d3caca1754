// What the server counts about itself, for /metrics. Thread-safe. Knows no engine.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

namespace troupe::server {

class server_metrics {
public:
  std::atomic<std::int64_t> open_connections{0};
  std::atomic<std::uint64_t> connections{0};
  std::atomic<std::int64_t> open_websockets{0};
  std::atomic<std::uint64_t> bytes_received{0};
  std::atomic<std::uint64_t> bytes_sent{0};
  std::atomic<std::uint64_t> faults{0};  ///< exceptions caught at the threads' borders

  /// `route` is a path of the route table or "none", so that the number of series is bounded.
  void count_request(std::string_view route, int status);

  /// Prometheus text exposition format 0.0.4.
  std::string text() const;

private:
  mutable std::mutex guard_;
  std::map<std::pair<std::string, int>, std::uint64_t> requests_;
};

}  // namespace troupe::server
