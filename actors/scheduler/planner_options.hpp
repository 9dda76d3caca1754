// How much the planner may run at once, and by which rules. Plain values.
#pragma once

#include <cstddef>
#include <cstdint>

namespace troupe::actors {

/// mix: one step may hold decode rows and prompt chunks (one device queue). split: a step is one or the other (two
/// queues, as on a GPU). choose: with two queues, whichever of both holds the decodes up less; a prompt that few mixed
/// steps would finish is mixed.
enum class batch_policy : std::uint8_t { mix, split, choose };

struct planner_options {
  std::int32_t max_sequences = 64;
  std::int32_t max_batch_tokens = 512;  ///< raised to max_sequences + a block, so that decodes never starve prompts
  std::int32_t block_tokens = 16;
  std::int32_t total_blocks = 0;
  std::size_t queue_sequences = 1024;
  std::int64_t queue_tokens = 1 << 20;
  std::int32_t steps_in_flight = 2;  ///< on each lane
  std::int32_t block_headroom = 8;   ///< tokens before a block's end at which the next one is asked for
  batch_policy policy = batch_policy::mix;
  /// A mixed step may take so many times as long as its decodes would alone, by what steps have taken so far; 0: no
  /// bound.
  double most_growth = 0;
  std::int32_t least_chunk = 64;      ///< prompt rows that a bounded step may have at any rate, so that prompts get on
  std::int32_t most_mixed_steps = 4;  ///< choose: a prompt that takes more of them goes to a queue of its own
  bool share_prefixes = false;        ///< sequences that begin alike read the same blocks
  std::int32_t least_awaited =
      64;  ///< tokens of a common beginning for which a sequence waits while another computes them
};

}  // namespace troupe::actors
