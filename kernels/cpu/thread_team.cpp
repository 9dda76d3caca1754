// The team's hand-over: a counter that starts a round, a counter that ends it. Knows no op.
#include "kernels/cpu/thread_team.hpp"

#include <chrono>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace troupe::kernels {
namespace {

// Longer than the gap between two ops of a step, shorter than a core may be kept from the threads that share it.
constexpr std::chrono::microseconds spin_time{30};
constexpr int spins_per_look = 32;

void pause() noexcept {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

}  // namespace

thread_team::thread_team(int threads) : threads_(threads < 1 ? 1 : threads) {
  workers_.reserve(static_cast<std::size_t>(threads_ - 1));
  for (int thread = 1; thread < threads_; ++thread) workers_.emplace_back([this, thread] { work_loop(thread); });
}

thread_team::~thread_team() {
  ending_ = true;
  started_.value.fetch_add(1, std::memory_order_release);
  started_.value.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void thread_team::wait_while(const std::atomic<std::uint32_t>& word, std::uint32_t old) noexcept {
  const auto begin = std::chrono::steady_clock::now();
  do {
    for (int spin = 0; spin < spins_per_look; ++spin) {
      if (word.load(std::memory_order_acquire) != old) return;
      pause();
    }
  } while (std::chrono::steady_clock::now() - begin < spin_time);
  while (word.load(std::memory_order_acquire) == old) word.wait(old, std::memory_order_acquire);
}

void thread_team::dispatch(entry function, void* object) {
  ++dispatches_;
  if (threads_ == 1) {
    function(object, 0, 1);
    return;
  }
  function_ = function;
  object_ = object;
  const auto others = static_cast<std::uint32_t>(threads_ - 1);
  const std::uint32_t target = finished_.value.load(std::memory_order_relaxed) + others;
  started_.value.fetch_add(1, std::memory_order_release);
  started_.value.notify_all();
  function(object, 0, threads_);
  for (std::uint32_t done; (done = finished_.value.load(std::memory_order_acquire)) != target;)
    wait_while(finished_.value, done);
}

void thread_team::work_loop(int thread) {
  std::uint32_t round = 0;
  for (;;) {
    wait_while(started_.value, round);
    ++round;
    if (ending_) return;
    function_(object_, thread, threads_);
    finished_.value.fetch_add(1, std::memory_order_release);
    finished_.value.notify_one();
  }
}

void thread_team::barrier() noexcept {
  if (threads_ == 1) return;
  const std::uint32_t round = passed_.value.load(std::memory_order_relaxed);
  const auto last = static_cast<std::uint32_t>(threads_ - 1);
  if (arrived_.value.fetch_add(1, std::memory_order_acq_rel) == last) {
    arrived_.value.store(0, std::memory_order_relaxed);
    barriers_.fetch_add(1, std::memory_order_relaxed);
    passed_.value.fetch_add(1, std::memory_order_release);
    passed_.value.notify_all();
    return;
  }
  wait_while(passed_.value, round);
}

}  // namespace troupe::kernels
