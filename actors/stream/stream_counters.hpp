// What stream shards count for the metrics page. Written by the shards, read at any time by any thread.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "base/duration_histogram.hpp"

namespace troupe::actors {

/// Upper ends of the buckets of what readers wait for, in seconds.
inline constexpr std::array latency_buckets = {0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05,
                                               0.075, 0.1,    0.25,  0.5,  1.0,  2.5,  10.0};

struct stream_counters {
  std::atomic<std::uint64_t> opened{0}, finished{0}, failed{0}, cancelled{0}, tokens{0}, events{0}, pauses{0};
  std::atomic<std::int64_t> live{0}, ended_held{0}, subscribers{0};
  base::duration_histogram first_token{latency_buckets};  ///< from submit
  base::duration_histogram inter_token{latency_buckets};  ///< between two tokens of a generation
};

}  // namespace troupe::actors
