// SIGINT and SIGTERM as something to wait for, in place of handlers that may do nothing.
#pragma once

#include <functional>
#include <thread>

namespace troupe::cli {

/// Blocks both signals in the calling thread and all that it starts later: make one first of all.
class signal_block {
public:
  signal_block();
  /// Waits for either; returns its number.
  int wait() const;
};

/// Calls `on_interrupt` on a thread of its own at each SIGINT or SIGTERM, until destroyed. Needs a signal_block.
class signal_watch {
public:
  signal_watch(const signal_block& block, std::function<void(int signal)> on_signal);
  ~signal_watch();
  signal_watch(const signal_watch&) = delete;
  signal_watch& operator=(const signal_watch&) = delete;

private:
  std::jthread thread_;
};

}  // namespace troupe::cli
