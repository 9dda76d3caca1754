// sigwait in place of signal handlers.
#include "cli/signals.hpp"

#include <pthread.h>

namespace troupe::cli {
namespace {

/// A blocked signal is delivered to those who wait for it even where it is ignored: one that is must not be waited for.
bool is_ignored(int which) {
  struct sigaction now{};
  return sigaction(which, nullptr, &now) == 0 && now.sa_handler == SIG_IGN;
}

}  // namespace

sigset_t ending_signals(on_hangup hangup) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  if (hangup == on_hangup::ask && !is_ignored(SIGHUP)) sigaddset(&set, SIGHUP);
  return set;
}

signal_block::signal_block(on_hangup hangup) : set_(ending_signals(hangup)) {
  pthread_sigmask(SIG_BLOCK, &set_, nullptr);
}

int signal_block::wait() const {
  int which = 0;
  sigwait(&set_, &which);
  return which;
}

signal_watch::signal_watch(const signal_block& block, std::function<void(int)> on_signal)
    : thread_([set = block.signals(), on_signal = std::move(on_signal)](std::stop_token stop) {
        int which = 0;
        while (sigwait(&set, &which) == 0 && !stop.stop_requested()) on_signal(which);
      }) {}

/// A signal for that thread alone wakes it: nobody waits for a command that is done.
signal_watch::~signal_watch() {
  thread_.request_stop();
  pthread_kill(thread_.native_handle(), SIGTERM);
}

}  // namespace troupe::cli
