// The two kinds of work that a lane is given. Each has an actor of its own, and both share the lane's thread.
#pragma once

#include <cstdint>

namespace troupe::actors {

/// Which actor a plan goes to. A sequence never has work in flight on both: they may overtake each other.
enum class lane_kind : std::uint8_t {
  prefill,  ///< prompt chunks only; where a lane has one queue they wait behind decode steps
  decode,   ///< steps with decode rows, and prompt chunks mixed in where the planner's policy says so; they go first
};

}  // namespace troupe::actors
