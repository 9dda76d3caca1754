// sigwait in place of signal handlers.
#include "cli/signals.hpp"

#include <csignal>
#include <ctime>
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
        const timespec look_again{0, 100'000'000};  // so that the destructor need not send a signal
        while (!stop.stop_requested())
          if (const int which = sigtimedwait(&set, nullptr, &look_again); which > 0) on_signal(which);
      }) {}

signal_watch::~signal_watch() = default;

}  // namespace troupe::cli
