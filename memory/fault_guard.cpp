// A table of ranges that a signal handler may read at any time.
#include "memory/fault_guard.hpp"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstdint>

namespace troupe::memory {
namespace {

/// Free: first == 0. A range is entered with its end before its start, and the start is what the handler looks at
/// first.
struct guarded_range {
  std::atomic<std::uintptr_t> first{0};
  std::atomic<std::uintptr_t> last{0};
  std::atomic<bool> taken{false};
  std::atomic<bool> lost{false};
};

constinit std::array<guarded_range, 64> ranges;
constinit std::uintptr_t page = 4096;
struct sigaction earlier;

void on_fault(int number, siginfo_t* about, void* context) {
  const auto at = reinterpret_cast<std::uintptr_t>(about->si_addr);
  for (guarded_range& range : ranges) {
    const std::uintptr_t first = range.first.load(std::memory_order_acquire);
    if (first == 0 || at < first || at >= range.last.load(std::memory_order_relaxed)) continue;
    range.lost.store(true, std::memory_order_relaxed);
    void* const start = reinterpret_cast<void*>(at / page * page);
    if (::mmap(start, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED) return;
    break;
  }
  if ((earlier.sa_flags & SA_SIGINFO) != 0) return earlier.sa_sigaction(number, about, context);
  if (earlier.sa_handler != SIG_DFL && earlier.sa_handler != SIG_IGN) return earlier.sa_handler(number);
  ::sigaction(number, &earlier, nullptr);  // on return the same read faults again, as if nobody had looked
}

void install() {
  page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  struct sigaction action = {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  ::sigaction(SIGBUS, &action, &earlier);
}

}  // namespace

fault_guard::fault_guard(std::span<const std::byte> range) noexcept {
  static const bool installed = (install(), true);
  (void)installed;
  for (std::size_t i = 0; i < ranges.size() && slot_ < 0; ++i)
    if (!ranges[i].taken.exchange(true)) slot_ = static_cast<int>(i);
  if (slot_ < 0) return;
  guarded_range& mine = ranges[static_cast<std::size_t>(slot_)];
  const auto first = reinterpret_cast<std::uintptr_t>(range.data());
  mine.lost = false;
  mine.last.store(first + range.size(), std::memory_order_relaxed);
  mine.first.store(first, std::memory_order_release);
}

fault_guard::~fault_guard() {
  if (slot_ < 0) return;
  guarded_range& mine = ranges[static_cast<std::size_t>(slot_)];
  mine.first = 0;
  mine.taken = false;
}

bool fault_guard::lost() const noexcept {
  return slot_ >= 0 && ranges[static_cast<std::size_t>(slot_)].lost.load(std::memory_order_relaxed);
}

}  // namespace troupe::memory
