// Ends a connection from any thread, without memory: its socket is shut down, and its session meets the end of the
// stream. Knows no session.
#pragma once

#include <sys/socket.h>

#include <mutex>

namespace troupe::server {

class break_switch {
public:
  explicit break_switch(int descriptor) noexcept : descriptor_(descriptor) {}

  /// Before the descriptor is closed or handed on: it may soon be another connection's.
  void take_out() noexcept {
    const std::scoped_lock lock(guard_);
    descriptor_ = -1;
  }
  void press() noexcept {
    const std::scoped_lock lock(guard_);
    if (descriptor_ >= 0) ::shutdown(descriptor_, SHUT_RDWR);
  }

private:
  std::mutex guard_;
  int descriptor_;
};

}  // namespace troupe::server
