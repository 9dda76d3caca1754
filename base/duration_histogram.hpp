// Durations counted in buckets: relaxed atomics, written and read by any thread at any time. Knows no metric's name.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/clock.hpp"

namespace troupe::base {

class duration_histogram {
public:
  static constexpr std::size_t most_bounds = 15;

  /// `bounds`: the buckets' upper ends in seconds, ascending, most_bounds at most; they outlive the histogram. Behind
  /// the last one is a bucket without an end.
  explicit duration_histogram(std::span<const double> bounds) noexcept
      : bounds_(bounds.first(std::min(bounds.size(), most_bounds))) {}

  void observe(duration d) noexcept {
    const std::int64_t ns = std::chrono::nanoseconds(d).count();
    const double seconds = static_cast<double>(ns) / 1e9;
    std::size_t i = 0;
    while (i < bounds_.size() && seconds > bounds_[i]) ++i;
    buckets_[i].fetch_add(1, std::memory_order_relaxed);
    nanoseconds_.fetch_add(ns, std::memory_order_relaxed);
    for (std::int64_t longest = longest_.load(std::memory_order_relaxed);
         ns > longest && !longest_.compare_exchange_weak(longest, ns, std::memory_order_relaxed);) {
    }
  }

  std::span<const double> bounds() const noexcept { return bounds_; }
  /// `i` up to bounds().size().
  std::uint64_t bucket(std::size_t i) const noexcept { return buckets_[i].load(std::memory_order_relaxed); }
  double sum_seconds() const noexcept {
    return static_cast<double>(nanoseconds_.load(std::memory_order_relaxed)) / 1e9;
  }
  double max_seconds() const noexcept { return static_cast<double>(longest_.load(std::memory_order_relaxed)) / 1e9; }

private:
  std::span<const double> bounds_;
  std::array<std::atomic<std::uint64_t>, most_bounds + 1> buckets_{};
  std::atomic<std::int64_t> nanoseconds_{0};
  std::atomic<std::int64_t> longest_{0};
};

}  // namespace troupe::base
