// The team's hand-over: a counter that starts a round, a counter that ends it. Knows no op.
#include "kernels/cpu/thread_team.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

#include <unistd.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace troupe::kernels {
namespace {

using clock = std::chrono::steady_clock;

// Longer than the gap between two ops of a step, shorter than a core may be kept from the threads that share it.
constexpr std::chrono::microseconds spin_time{30};
constexpr int spins_per_look = 32;

void pause() noexcept {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#else
  std::this_thread::yield();
#endif
}

/// False: the word still has its old value after spin_time.
bool spin_while(const std::atomic<std::uint32_t>& word, std::uint32_t old, clock::time_point& begin) noexcept {
  begin = clock::now();
  do {
    for (int spin = 0; spin < spins_per_look; ++spin) {
      if (word.load(std::memory_order_acquire) != old) return true;
      pause();
    }
  } while (clock::now() - begin < spin_time);
  return false;
}

void sleep_while(const std::atomic<std::uint32_t>& word, std::uint32_t old) noexcept {
  while (word.load(std::memory_order_acquire) == old) word.wait(old, std::memory_order_acquire);
}

/// How long it took; zero where spinning was enough.
clock::duration wait_while(const std::atomic<std::uint32_t>& word, std::uint32_t old) noexcept {
  clock::time_point begin;
  if (spin_while(word, old, begin)) return {};
  sleep_while(word, old);
  return clock::now() - begin;
}

// A round's word: its number above its width. Width 0 ends the team.
constexpr int width_bits = 12;
constexpr std::uint32_t width_mask = (1u << width_bits) - 1;
constexpr std::uint32_t next_round(std::uint32_t before, int width) noexcept {
  return ((before >> width_bits) + 1) << width_bits | static_cast<std::uint32_t>(width);
}

std::int64_t nanoseconds(clock::duration d) noexcept {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(d).count();
}

}  // namespace

thread_team::thread_team(int threads, when_late policy)
    : thread_team(std::vector<member_place>(static_cast<std::size_t>(std::max(1, threads))), policy) {}

thread_team::thread_team(std::vector<member_place> places, when_late policy)
    : places_(std::move(places)),
      threads_(std::clamp(static_cast<int>(places_.size()), 1, static_cast<int>(width_mask))), policy_(policy),
      active_(threads_), width_(threads_) {
  weights_before_.push_back(0);
  for (const member_place& place : places_)
    weights_before_.push_back(weights_before_.back() + std::max(1, place.weight));
  workers_.reserve(static_cast<std::size_t>(threads_ - 1));
  for (int thread = 1; thread < threads_; ++thread) workers_.emplace_back([this, thread] { work_loop(thread); });
}

thread_team::~thread_team() {
  start_round(0);
  call_back();
  for (std::thread& worker : workers_) worker.join();
  release_caller();
}

void thread_team::seat_caller() {
  release_caller();
  caller_ = std::this_thread::get_id();
  caller_tid_ = static_cast<int>(::gettid());
  caller_cpus_ = base::allowed_cpus();
  base::bind_thread(0, places_.front().cpus);
}

/// By number: the thread may be another than this one. If it has ended, the kernel refuses, and nothing is lost.
void thread_team::release_caller() noexcept {
  if (caller_tid_ != 0) base::bind_thread(caller_tid_, caller_cpus_);
  caller_tid_ = 0;
}

std::uint32_t thread_team::start_round(int width) noexcept {
  const std::uint32_t round = next_round(started_.value.load(std::memory_order_relaxed), width);
  under_way_.store(round, std::memory_order_relaxed);
  started_.value.store(round, std::memory_order_release);
  started_.value.notify_all();
  return round;
}

/// After the start of a round that they belong to: whoever reads the new count also sees that round.
void thread_team::call_back() noexcept {
  benched_.value.fetch_add(1, std::memory_order_release);
  benched_.value.notify_all();
}

void thread_team::dispatch(entry function, void* object) {
  ++dispatches_;
  if (!places_.front().cpus.empty() && caller_ != std::this_thread::get_id()) seat_caller();
  const int before = width_.width();
  if (width_.narrowed()) width_.widen_if_due(clock::now());
  active_ = width_.width();
  if (active_ == 1) return function(object, 0, 1);
  function_ = function;
  object_ = object;
  const std::uint32_t target =
      finished_.value.load(std::memory_order_relaxed) + static_cast<std::uint32_t>(active_ - 1);
  const std::uint32_t round = start_round(active_);
  if (active_ > before) call_back();
  function(object, 0, active_);
  duration waited{};
  for (std::uint32_t done; (done = finished_.value.load(std::memory_order_acquire)) != target;)
    waited += wait_while(finished_.value, done);
  under_way_.store(0, std::memory_order_relaxed);
  weigh(round, waited);
}

/// Nothing to do on a quiet machine: nobody waits for longer than it spins.
void thread_team::weigh(std::uint32_t round, duration waited) noexcept {
  const std::uint32_t ready = ready_.load(std::memory_order_acquire);
  const std::int64_t at_barrier = waited_.load(std::memory_order_relaxed);
  if (policy_ == when_late::wait || (waited == duration{} && at_barrier == 0 && ready == 0)) return;
  const auto now = clock::now();
  if (ready == round)
    waited = std::max(waited, now.time_since_epoch() - duration(ready_since_.load(std::memory_order_relaxed)));
  if (ready != 0) ready_.store(0, std::memory_order_relaxed);
  if (at_barrier != 0) waited_.store(0, std::memory_order_relaxed);
  width_.waited(now, waited + std::chrono::nanoseconds(at_barrier));
}

void thread_team::work_loop(int thread) {
  const auto& cpus = places_[static_cast<std::size_t>(thread)].cpus;
  if (!cpus.empty()) base::bind_thread(0, cpus);
  for (std::uint32_t seen = 0;;) {
    const std::uint32_t bench = benched_.value.load(std::memory_order_acquire);
    wait_for_round(seen);
    seen = started_.value.load(std::memory_order_acquire);
    const int width = static_cast<int>(seen & width_mask);
    if (width == 0) return;
    if (thread < width) {
      function_(object_, thread, width);
      finished_.value.fetch_add(1, std::memory_order_release);
      finished_.value.notify_one();
    } else {
      sleep_while(benched_.value, bench);
    }
  }
}

/// Waiting between rounds is nobody's fault, unless the caller is still at its share of the last one.
void thread_team::wait_for_round(std::uint32_t seen) noexcept {
  clock::time_point begin;
  if (spin_while(started_.value, seen, begin)) return;
  if (under_way_.load(std::memory_order_relaxed) == seen && ready_.load(std::memory_order_relaxed) == 0) {
    ready_since_.store(begin.time_since_epoch().count(), std::memory_order_relaxed);
    ready_.store(seen, std::memory_order_release);
  }
  sleep_while(started_.value, seen);
}

void thread_team::barrier() noexcept {
  if (active_ == 1) return;
  const std::uint32_t round = passed_.value.load(std::memory_order_relaxed);
  const auto last = static_cast<std::uint32_t>(active_ - 1);
  if (arrived_.value.fetch_add(1, std::memory_order_acq_rel) == last) {
    arrived_.value.store(0, std::memory_order_relaxed);
    barriers_.fetch_add(1, std::memory_order_relaxed);
    passed_.value.fetch_add(1, std::memory_order_release);
    passed_.value.notify_all();
    return;
  }
  const std::int64_t waited = nanoseconds(wait_while(passed_.value, round));
  if (waited > waited_.load(std::memory_order_relaxed)) waited_.store(waited, std::memory_order_relaxed);
}

}  // namespace troupe::kernels
