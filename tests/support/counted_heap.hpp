// The heap of a test's process: how much is held, and an allocation that fails on demand. Linked into the tests that
// ask.
#pragma once

#include <cstddef>
#include <cstdint>

namespace troupe::test {

/// Bytes that are allocated and not freed, and the most since the last reset_peak().
std::size_t heap_held() noexcept;
std::size_t heap_peak() noexcept;
void reset_heap_peak() noexcept;

/// The n-th allocation from now on (from 1) throws std::bad_alloc, on whatever thread that is not spared.
void fail_allocation(std::uint64_t n) noexcept;
/// No allocation fails any more. Whether one has.
bool end_failing() noexcept;

/// While it lives, this thread's allocations neither fail nor count as one of the n.
class spared {
public:
  spared() noexcept;
  ~spared();
  spared(const spared&) = delete;
  spared& operator=(const spared&) = delete;
};

}  // namespace troupe::test
