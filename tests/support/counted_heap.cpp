// The global allocation functions, replaced; and aligned_alloc, which Asio calls for its handlers.
#include "counted_heap.hpp"

#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <new>

namespace {

std::atomic<std::size_t> held{0}, peak{0};
std::atomic<std::int64_t> until_failure{0};  // 0: none is to fail
std::atomic<bool> has_failed{false};
thread_local int spared_depth = 0;

bool is_to_fail() noexcept {
  if (spared_depth > 0 || until_failure.load(std::memory_order_relaxed) <= 0) return false;
  if (until_failure.fetch_sub(1) != 1) return false;
  has_failed = true;
  return true;
}

void* counted(void* made) noexcept {
  if (made == nullptr) return nullptr;
  const auto now = held += malloc_usable_size(made);
  for (auto seen = peak.load(); seen < now && !peak.compare_exchange_weak(seen, now);) {
  }
  return made;
}

void* allocate(std::size_t size) noexcept {
  return is_to_fail() ? nullptr : counted(std::malloc(size == 0 ? 1 : size));
}

void* allocate(std::size_t size, std::size_t alignment) noexcept {
  void* made = nullptr;
  return is_to_fail() || posix_memalign(&made, alignment < sizeof(void*) ? sizeof(void*) : alignment, size) != 0
             ? nullptr
             : counted(made);
}

void* or_throw(void* made) {
  if (made == nullptr) throw std::bad_alloc();
  return made;
}

void give_back(void* old) noexcept {
  if (old == nullptr) return;
  held -= malloc_usable_size(old);
  std::free(old);
}

}  // namespace

namespace troupe::test {

std::size_t heap_held() noexcept { return held; }
std::size_t heap_peak() noexcept { return peak; }
void reset_heap_peak() noexcept { peak = held.load(); }

void fail_allocation(std::uint64_t n) noexcept {
  has_failed = false;
  until_failure = static_cast<std::int64_t>(n);
}

bool end_failing() noexcept {
  until_failure = 0;
  return has_failed;
}

spared::spared() noexcept { ++spared_depth; }
spared::~spared() { --spared_depth; }

}  // namespace troupe::test

void* operator new(std::size_t size) { return or_throw(allocate(size)); }
void* operator new[](std::size_t size) { return or_throw(allocate(size)); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return allocate(size); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return allocate(size); }
void* operator new(std::size_t size, std::align_val_t at) {
  return or_throw(allocate(size, static_cast<std::size_t>(at)));
}
void* operator new[](std::size_t size, std::align_val_t at) {
  return or_throw(allocate(size, static_cast<std::size_t>(at)));
}
void* operator new(std::size_t size, std::align_val_t at, const std::nothrow_t&) noexcept {
  return allocate(size, static_cast<std::size_t>(at));
}
void* operator new[](std::size_t size, std::align_val_t at, const std::nothrow_t&) noexcept {
  return allocate(size, static_cast<std::size_t>(at));
}
void operator delete(void* old) noexcept { give_back(old); }
void operator delete[](void* old) noexcept { give_back(old); }
void operator delete(void* old, std::size_t) noexcept { give_back(old); }
void operator delete[](void* old, std::size_t) noexcept { give_back(old); }
void operator delete(void* old, const std::nothrow_t&) noexcept { give_back(old); }
void operator delete[](void* old, const std::nothrow_t&) noexcept { give_back(old); }
void operator delete(void* old, std::align_val_t) noexcept { give_back(old); }
void operator delete[](void* old, std::align_val_t) noexcept { give_back(old); }
void operator delete(void* old, std::size_t, std::align_val_t) noexcept { give_back(old); }
void operator delete[](void* old, std::size_t, std::align_val_t) noexcept { give_back(old); }
void operator delete(void* old, std::align_val_t, const std::nothrow_t&) noexcept { give_back(old); }
void operator delete[](void* old, std::align_val_t, const std::nothrow_t&) noexcept { give_back(old); }

/// Freed with free(): not counted as held.
extern "C" void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  void* made = nullptr;
  return is_to_fail() || posix_memalign(&made, alignment < sizeof(void*) ? sizeof(void*) : alignment, size) != 0
             ? nullptr
             : made;
}
