// Turns a fault on a page of a mapped file that has been cut short into zeros and a mark. Knows address ranges alone.
//
// The kernel tells of such a page by SIGBUS alone, and a signal's handler belongs to the process: this is the one place
// with state of the process. Faults outside of guarded ranges go to whoever handled them before.
#pragma once

#include <atomic>
#include <cstddef>
#include <span>

namespace troupe::memory {

/// Guards a range while it lives: a fault there puts a page of zeros in its place and is remembered. At most 64 at a
/// time in a process; more are not guarded.
class fault_guard {
public:
  explicit fault_guard(std::span<const std::byte> range) noexcept;
  fault_guard(const fault_guard&) = delete;
  fault_guard& operator=(const fault_guard&) = delete;
  ~fault_guard();

  /// Some page of the range was no longer there when it was read. What was computed since may be worthless.
  bool lost() const noexcept;

private:
  int slot_ = -1;
};

}  // namespace troupe::memory
