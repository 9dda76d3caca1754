// Keeps what a session's handler throws inside of the session: memory may be short for one client and not for others.
// Knows no session.
#pragma once

#include <exception>

namespace troupe::server {

/// `whose.failed(fault)` is to end or answer what cannot go on; it throws nothing.
template <class Session, class Task>
void guard(Session& whose, Task&& task) noexcept {
  try {
    task();
  } catch (const std::exception& fault) {
    whose.failed(fault);
  }
}

}  // namespace troupe::server
