// sigwait in place of signal handlers.
#include "cli/signals.hpp"

#include <csignal>
#include <pthread.h>

namespace troupe::cli {
namespace {

sigset_t ending_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}

}  // namespace

signal_block::signal_block() {
  const sigset_t set = ending_signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

int signal_block::wait() const {
  const sigset_t set = ending_signals();
  int which = 0;
  sigwait(&set, &which);
  return which;
}

signal_watch::signal_watch(const signal_block&, std::function<void(int)> on_signal)
    : thread_([on_signal = std::move(on_signal)](std::stop_token stop) {
        const sigset_t set = ending_signals();
        int which = 0;
        while (sigwait(&set, &which) == 0 && !stop.stop_requested()) on_signal(which);
      }) {}

/// A signal for that thread alone wakes it: nobody waits for a command that is done.
signal_watch::~signal_watch() {
  thread_.request_stop();
  pthread_kill(thread_.native_handle(), SIGTERM);
}

}  // namespace troupe::cli
