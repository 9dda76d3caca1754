// How long this thread has been on a processor. Knows nothing else.
#pragma once

#include <ctime>

namespace troupe::cli {

inline double thread_microseconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) / 1e3;
}

}  // namespace troupe::cli
