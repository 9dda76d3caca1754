// The bounds of a stream shard.
#pragma once

#include <chrono>
#include <cstddef>

namespace troupe::actors {

struct stream_limits {
  std::size_t generations = 4096;  ///< open at once in a shard
  std::size_t ended_kept = 1024;   ///< ended ones that wait for readers or their time-to-live; the oldest goes first
  std::chrono::milliseconds time_to_live = std::chrono::minutes(5);  ///< after the end
  std::size_t subscribers = 64;                                      ///< of one generation
  std::size_t lag_bytes = 64 * 1024;  ///< decoding pauses when every subscriber is further behind than this
  std::size_t lag_entries = 512;      ///< or than this
  /// Of text and log-probabilities that one event joins; with its credit, what waits for a subscriber.
  std::size_t delta_bytes = 4096;
};

}  // namespace troupe::actors
