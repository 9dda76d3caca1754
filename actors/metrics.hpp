// What the engine counts: relaxed atomics, each written by one owner (named beside it), read by anyone at any time.
// Shards keep their own (stream/stream_counters.hpp).
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace troupe::actors {

/// Counts durations in fixed buckets; the last has no upper bound. One writer.
class duration_histogram {
public:
  static constexpr std::array<double, 12> bounds = {1e-6, 5e-6, 2e-5, 5e-5, 1.5e-4, 5e-4, 2e-3, 1e-2, 3e-2, 0.1, 0.5, 2};

  void observe(std::chrono::steady_clock::duration d) noexcept;
  std::uint64_t bucket(std::size_t i) const noexcept { return buckets_[i].load(std::memory_order_relaxed); }
  std::uint64_t count() const noexcept;
  double sum_seconds() const noexcept { return static_cast<double>(nanoseconds_.load(std::memory_order_relaxed)) * 1e-9; }
  double max_seconds() const noexcept { return static_cast<double>(max_.load(std::memory_order_relaxed)) * 1e-9; }

private:
  std::array<std::atomic<std::uint64_t>, bounds.size() + 1> buckets_{};
  std::atomic<std::int64_t> nanoseconds_{0};
  std::atomic<std::int64_t> max_{0};
};

struct engine_metrics {
  using counter = std::atomic<std::uint64_t>;
  using gauge = std::atomic<std::int64_t>;

  // Written by the scheduler's shell.
  gauge queued{0};
  gauge running{0};
  counter prompt_tokens{0};
  counter prefix_cache_hit_tokens{0};
  counter preemptions{0};
  counter refused{0};
  counter hung_steps{0};

  // Written by the kv_store's shell.
  gauge kv_blocks_free{0};
  gauge kv_blocks_cached{0};
  gauge kv_host_blocks{0};
  counter kv_host_bytes_out{0};
  counter kv_host_bytes_in{0};
  counter kv_host_hit_tokens{0};
  counter kv_host_failed_copies{0};

  // Written by the wiring, once.
  gauge kv_blocks_total{0};
  std::atomic<bool> healthy{true};  ///< false after an actor's unexpected end (supervisor) or a lost device (scheduler)

  // Written by the lane thread.
  counter steps{0};
  counter sampled_tokens{0};
  counter failed_sequences{0};
  counter prefill_rows{0};
  counter decode_rows{0};
  duration_histogram step_time;
  duration_histogram step_gap;  ///< end of a step to the start of the next, where there was more to compute
  std::atomic<std::int64_t> last_step_ns{0};  ///< steady clock, end of the last step; 0: none yet

  // Written by every shell of the engine: messages sent from actor to actor. Divided by sampled_tokens it is the cost
  // of being made of actors.
  counter messages{0};

  /// Prometheus text exposition format 0.0.4, appended; every series has the label model="...".
  void append_prometheus(std::string& out, std::string_view model) const;
  std::string prometheus_text(std::string_view model = {}) const;
};

}  // namespace troupe::actors
