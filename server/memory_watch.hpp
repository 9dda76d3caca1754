// How near this machine, or the group of processes that this one is in, is to having no memory left. Knows no request.
#pragma once

#include <functional>
#include <mutex>
#include <optional>

#include "base/clock.hpp"
#include "base/machine.hpp"

namespace troupe::server {

enum class memory_level {
  enough,
  low,   ///< a twentieth is left, at most 256 MiB: what runs may go on, nothing new begins
  gone,  ///< a fiftieth, at most 64 MiB: not even new connections
};

/// Pure: what the figures mean.
memory_level level_of(const base::memory_limits& memory) noexcept;

/// Thread-safe. Looks at most ten times a second, only when asked; a look takes about a tenth of a millisecond.
class memory_watch {
public:
  using look = std::function<base::memory_limits()>;

  /// Without a `read`: what the kernel says.
  explicit memory_watch(look read);
  memory_level now(base::time_point at = base::clock::now());

private:
  const look read_;
  std::mutex guard_;
  std::optional<base::time_point> last_;
  memory_level level_ = memory_level::enough;
};

}  // namespace troupe::server
