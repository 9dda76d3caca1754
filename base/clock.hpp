// The clocks that Troupe uses. Cores never ask for the time: they take a time_point as an argument, so that a test or
// a simulator drives them by hand; only shells and sessions call clock::now().
#pragma once

#include <chrono>

namespace troupe::base {

using clock = std::chrono::steady_clock;  ///< for durations and deadlines; never goes back
using time_point = clock::time_point;
using duration = clock::duration;

inline double to_milliseconds(duration d) noexcept { return std::chrono::duration<double, std::milli>(d).count(); }

}  // namespace troupe::base
