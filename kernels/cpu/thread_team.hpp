// N threads that run one function together and meet at barriers; the caller is member 0. Knows no op.
// Waits spin briefly, then sleep in the kernel: an idle team uses no CPU.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

namespace troupe::kernels {

/// The half-open share [first, last) of `count` items that belongs to one thread. Depends on nothing else, so a
/// thread meets the same weights again in every step.
struct share {
  std::int64_t first = 0;
  std::int64_t last = 0;
};
constexpr share share_of(std::int64_t count, int thread, int threads) noexcept {
  return {count * thread / threads, count * (thread + 1) / threads};
}

/// Driven by one thread at a time. The constructor throws std::system_error if a thread cannot start.
class thread_team {
public:
  explicit thread_team(int threads);
  ~thread_team();
  thread_team(const thread_team&) = delete;
  thread_team& operator=(const thread_team&) = delete;

  int size() const noexcept { return threads_; }

  /// Calls work(thread, threads) on every member and returns when all have returned. `work` must not throw.
  template <class Work>
  void run(Work&& work) {
    using plain = std::remove_reference_t<Work>;
    dispatch([](void* object, int thread, int threads) { (*static_cast<plain*>(object))(thread, threads); },
             const_cast<void*>(static_cast<const void*>(&work)));
  }

  /// Only inside run(): returns when every member has called it.
  void barrier() noexcept;

  /// Calls of run() and barriers inside them, since the start.
  std::uint64_t dispatches() const noexcept { return dispatches_; }
  std::uint64_t barriers() const noexcept { return barriers_.load(std::memory_order_relaxed); }

private:
  using entry = void (*)(void*, int, int);
  // One cache line each: the workers spin on these.
  struct alignas(64) word {
    std::atomic<std::uint32_t> value{0};
  };

  void dispatch(entry function, void* object);
  void work_loop(int thread);
  static void wait_while(const std::atomic<std::uint32_t>& word, std::uint32_t old) noexcept;

  int threads_;
  entry function_ = nullptr;
  void* object_ = nullptr;
  bool ending_ = false;
  std::uint64_t dispatches_ = 0;
  std::atomic<std::uint64_t> barriers_{0};
  word started_;   ///< counts dispatches; workers wait for it to change
  word finished_;  ///< workers done, over all dispatches
  word arrived_;   ///< members at the current barrier
  word passed_;    ///< counts barriers
  std::vector<std::thread> workers_;
};

}  // namespace troupe::kernels
