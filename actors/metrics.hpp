// What the engine counts: relaxed atomics, each written by one owner (named beside it), read by anyone at any time.
// Shards keep their own (stream/stream_counters.hpp); pipelines/metrics_page.cpp says what they are called outside.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "base/duration_histogram.hpp"

namespace troupe::actors {

/// Upper ends of the buckets of step times, in seconds.
inline constexpr std::array step_time_buckets = {1e-6, 5e-6, 2e-5, 5e-5, 1.5e-4, 5e-4, 2e-3, 1e-2, 3e-2, 0.1, 0.5, 2.0};

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
  base::duration_histogram step_time{step_time_buckets};
  /// End of a step to the start of the next, where there was more to compute.
  base::duration_histogram step_gap{step_time_buckets};
  std::atomic<std::int64_t> last_step_ns{0};  ///< steady clock, end of the last step; 0: none yet

  // Written by every shell of the engine: messages sent from actor to actor. Divided by sampled_tokens it is the cost
  // of being made of actors.
  counter messages{0};
};

}  // namespace troupe::actors
