// The bounds of a stream shard and the counters it keeps for the metrics page.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace troupe::actors {

struct stream_limits {
  std::size_t generations = 4096;     ///< open at once in a shard
  std::size_t ended_kept = 1024;      ///< ended ones that wait for readers or their time-to-live; the oldest goes first
  std::chrono::milliseconds time_to_live = std::chrono::minutes(5);  ///< after the end
  std::size_t subscribers = 64;       ///< of one generation
  std::size_t lag_bytes = 64 * 1024;  ///< decoding pauses when every subscriber is further behind than this
  std::size_t lag_entries = 512;      ///< or than this
};

/// Written by the shards, read by the metrics page at any time.
class stream_counters {
public:
  std::atomic<std::uint64_t> opened{0}, finished{0}, failed{0}, cancelled{0}, tokens{0}, events{0}, pauses{0};
  std::atomic<std::int64_t> live{0}, ended_held{0}, subscribers{0};
};

}  // namespace troupe::actors
