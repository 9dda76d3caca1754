// The signals that end a command as something to wait for, in place of handlers that may do nothing.
#pragma once

#include <csignal>
#include <functional>
#include <thread>

namespace troupe::cli {

/// What a terminal that closes does to a command: ends it there and then, or asks it as SIGTERM does, unless whoever
/// started it had SIGHUP ignored (nohup).
enum class on_hangup { end_at_once, ask };

sigset_t ending_signals(on_hangup hangup);

/// Blocks SIGINT and SIGTERM, and SIGHUP where it asks, in the calling thread and all that it starts later: make one
/// first of all.
class signal_block {
public:
  explicit signal_block(on_hangup hangup = on_hangup::end_at_once);
  /// Waits for any of them; returns its number.
  int wait() const;
  const sigset_t& signals() const noexcept { return set_; }

private:
  sigset_t set_;
};

/// Calls `on_signal` on a thread of its own at each blocked signal, until destroyed.
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
