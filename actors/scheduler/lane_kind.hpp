// The two kinds of work that a lane is given.
#pragma once

#include <cstdint>

namespace troupe::actors {

/// Which actor a plan goes to. A sequence never has work in flight on both: they may overtake each other.
enum class lane_kind : std::uint8_t { prefill, decode };

}  // namespace troupe::actors
