// A server in a process of its own that is replaced when its device is lost: what a GPU has broken, only the end of the
// process mends. Knows no engine and no socket.
#pragma once

#include <array>
#include <chrono>
#include <functional>
#include <utility>

#include "cli/options.hpp"

namespace troupe::cli {

/// Exit status of a server whose engine is broken for good (EX_TEMPFAIL).
constexpr int engine_lost_status = 75;

/// What follows on a loss. Three losses within five minutes are one too many for the GPU; then the CPU serves, and when
/// that is lost too nobody does. Knows no process; time comes in.
class restart_policy {
public:
  enum class next { again, on_cpu, give_up };
  static constexpr int most_losses = 3;
  static constexpr std::chrono::minutes within{5};

  next after_loss(std::chrono::steady_clock::time_point now);
  /// A process that was to replace another did not come up.
  next after_failed_start() { return std::exchange(on_cpu_, true) ? next::give_up : next::on_cpu; }

private:
  std::array<std::chrono::steady_clock::time_point, most_losses - 1> losses_{};
  int count_ = 0;
  bool on_cpu_ = false;
};

/// Runs `serve_once` in child processes until one ends otherwise than by a loss, passes SIGINT, SIGTERM and SIGHUP on
/// to it, and returns its exit status. A child that ends by a signal of its own was lost too. Call it before any thread
/// was started.
int keep_serving(serve_options options, const std::function<int(const serve_options&)>& serve_once);

}  // namespace troupe::cli
