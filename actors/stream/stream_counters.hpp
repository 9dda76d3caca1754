// What stream shards count for the metrics page. Written by the shards, read at any time by any thread.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace troupe::actors {

/// Counts durations in buckets; the last one has no upper bound.
class latency_histogram {
public:
  static constexpr std::array<double, 14> bounds = {0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1, 2.5, 10};

  void observe(std::chrono::steady_clock::duration d) noexcept {
    const double seconds = std::chrono::duration<double>(d).count();
    std::size_t i = 0;
    while (i < bounds.size() && seconds > bounds[i]) ++i;
    buckets_[i].fetch_add(1, std::memory_order_relaxed);
    nanoseconds_.fetch_add(std::chrono::nanoseconds(d).count(), std::memory_order_relaxed);
  }
  std::uint64_t bucket(std::size_t i) const noexcept { return buckets_[i].load(std::memory_order_relaxed); }
  double sum_seconds() const noexcept { return static_cast<double>(nanoseconds_.load(std::memory_order_relaxed)) * 1e-9; }

private:
  std::array<std::atomic<std::uint64_t>, bounds.size() + 1> buckets_{};
  std::atomic<std::int64_t> nanoseconds_{0};
};

class stream_counters {
public:
  std::atomic<std::uint64_t> opened{0}, finished{0}, failed{0}, cancelled{0}, tokens{0}, events{0}, pauses{0};
  std::atomic<std::int64_t> live{0}, ended_held{0}, subscribers{0};
  latency_histogram first_token;   ///< from submit
  latency_histogram inter_token;   ///< between two tokens of a generation
};

}  // namespace troupe::actors
