// Levels, and a line in the log at each change.
#include "server/memory_watch.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "base/log.hpp"

namespace troupe::server {
namespace {

constexpr std::uint64_t mebibyte = 1 << 20;
constexpr std::chrono::milliseconds between_looks{100};

void tell(memory_level level, const base::memory_limits& memory) {
  const auto left = std::to_string(memory.available / mebibyte) + " MiB of memory left: ";
  switch (level) {
    case memory_level::enough: return base::log(base::log_level::warning, "server", left + "requests are taken again");
    case memory_level::low:
      return base::log(base::log_level::warning, "server", left + "new requests are refused with 503");
    case memory_level::gone: return base::log(base::log_level::warning, "server", left + "no connection is accepted");
  }
}

}  // namespace

memory_level level_of(const base::memory_limits& memory) noexcept {
  const auto total = memory.cgroup_limit > 0 ? std::min(memory.cgroup_limit, memory.total) : memory.total;
  if (total == 0) return memory_level::enough;  // nothing could be read
  if (memory.available < std::min(total / 50, 64 * mebibyte)) return memory_level::gone;
  return memory.available < std::min(total / 20, 256 * mebibyte) ? memory_level::low : memory_level::enough;
}

memory_watch::memory_watch(look read) : read_(read ? std::move(read) : [] { return base::read_memory_limits(); }) {}

memory_level memory_watch::now(base::time_point at) {
  const std::scoped_lock lock(guard_);
  if (last_ && at - *last_ < between_looks) return level_;
  last_ = at;
  const auto memory = read_();
  const auto level = level_of(memory);
  if (std::exchange(level_, level) != level) tell(level, memory);
  return level_;
}

}  // namespace troupe::server
