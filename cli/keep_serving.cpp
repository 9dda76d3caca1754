// fork, wait, decide. The parent holds no socket and no model.
#include "cli/keep_serving.hpp"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <iostream>

#include "cli/signals.hpp"

namespace troupe::cli {
namespace {

sigset_t watched_signals() {
  sigset_t set = ending_signals(on_hangup::ask);
  sigaddset(&set, SIGCHLD);
  return set;
}

[[noreturn]] void be_child(pid_t parent, const serve_options& options,
                           const std::function<int(const serve_options&)>& serve_once) {
  setpgid(0, 0);  // Ctrl-C reaches the parent alone, which passes it on once
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(engine_lost_status);
  const int status = serve_once(options);
  std::cout.flush();
  std::cerr.flush();
  _exit(status);
}

struct ending {
  int status = 0;
  bool lost = false;
  bool asked = false;  ///< by a signal that was passed on
};

ending wait_for(pid_t child) {
  const sigset_t set = watched_signals();
  ending how;
  for (;;) {
    int status = 0;
    if (waitpid(child, &status, WNOHANG) == child) {
      how.lost = WIFSIGNALED(status) || WEXITSTATUS(status) == engine_lost_status;
      how.status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
      return how;
    }
    int which = 0;
    sigwait(&set, &which);
    if (which == SIGCHLD) continue;
    how.asked = true;
    kill(child, which);
  }
}

}  // namespace

restart_policy::next restart_policy::after_loss(std::chrono::steady_clock::time_point now) {
  if (on_cpu_) return next::give_up;
  const auto oldest = std::exchange(losses_[static_cast<std::size_t>(count_) % losses_.size()], now);
  if (++count_ < most_losses || now - oldest > within) return next::again;
  on_cpu_ = true;
  return next::on_cpu;
}

int keep_serving(serve_options options, const std::function<int(const serve_options&)>& serve_once) {
  const sigset_t set = watched_signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  restart_policy policy;
  for (bool replaced = false;; replaced = true) {
    const pid_t parent = getpid();
    const pid_t child = fork();
    if (child < 0) {
      std::perror("troupe: fork");
      return 1;
    }
    if (child == 0) be_child(parent, options, serve_once);
    const ending how = wait_for(child);
    const bool failed_start = replaced && !how.lost && how.status != 0;
    if (how.asked || (!how.lost && !failed_start)) return how.status;
    const auto next = how.lost ? policy.after_loss(std::chrono::steady_clock::now()) : policy.after_failed_start();
    if (next == restart_policy::next::give_up) {
      std::cerr << "troupe: the engine was lost once more; giving up.\n";
      return how.status;
    }
    if (next == restart_policy::next::on_cpu) options.engine.device = "cpu";
    std::cerr << "troupe: the engine was lost (status " << how.status << "); a new process serves on"
              << (next == restart_policy::next::on_cpu ? ", on the CPU: it will be slower" : "") << ".\n";
  }
}

}  // namespace troupe::cli
