// N threads that run one function together and meet at barriers; the caller is member 0. Knows no op.
// Waits spin briefly, then sleep in the kernel: an idle team uses no CPU. Where a busy neighbour keeps a member from
// its core, the team goes on with fewer (team_width.hpp).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <thread>
#include <type_traits>
#include <vector>

#include "kernels/cpu/team_plan.hpp"
#include "kernels/cpu/team_width.hpp"

namespace troupe::kernels {

/// The half-open share [first, last) of some items that belongs to one thread.
struct share {
  std::int64_t first = 0;
  std::int64_t last = 0;
};

/// Equal shares, for work of a kind that has nothing to do with weights.
constexpr share share_of(std::int64_t count, int thread, int threads) noexcept {
  return {count * thread / threads, count * (thread + 1) / threads};
}

/// What to do about a member that others keep waiting for: a neighbour may have its core.
enum class when_late { wait, narrow };

/// Driven by one thread at a time, which is bound to member 0's place until another thread drives the team or the team
/// ends; then it may run where it could before. The constructors throw std::system_error if a thread cannot start.
class thread_team {
public:
  /// Members of equal weight, bound nowhere.
  explicit thread_team(int threads, when_late policy = when_late::wait);
  /// One member a place: at least one, in the order in which a narrowed team keeps them.
  explicit thread_team(std::vector<member_place> places, when_late policy = when_late::wait);
  ~thread_team();
  thread_team(const thread_team&) = delete;
  thread_team& operator=(const thread_team&) = delete;

  int size() const noexcept { return threads_; }
  /// Members that the last round had.
  int width() const noexcept { return active_; }

  /// The share of `count` items that is `thread`'s in a round of `threads` members, by weight. Depends on nothing else,
  /// so that a thread meets the same weights again in every step, and first touches the pages that it will read.
  share share_of(std::int64_t count, int thread, int threads) const noexcept {
    const std::int64_t all = weights_before_[static_cast<std::size_t>(threads)];
    return {count * weights_before_[static_cast<std::size_t>(thread)] / all,
            count * weights_before_[static_cast<std::size_t>(thread) + 1] / all};
  }

  /// Calls work(thread, threads) on members 0 to threads - 1 and returns when all have returned; `threads` is the size,
  /// or less while the team is narrowed. `work` must not throw.
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

  using time_point = team_width::time_point;
  using duration = team_width::duration;

  void dispatch(entry function, void* object);
  void seat_caller();
  void release_caller() noexcept;
  std::uint32_t start_round(int width) noexcept;
  void call_back() noexcept;
  void weigh(std::uint32_t round, duration waited) noexcept;
  void work_loop(int thread);
  void wait_for_round(std::uint32_t seen) noexcept;

  const std::vector<member_place> places_;
  const int threads_;
  const when_late policy_;
  std::vector<std::int64_t> weights_before_;  ///< [threads + 1]: of the members before each
  // The thread that drives the team, where members are bound.
  std::thread::id caller_;
  int caller_tid_ = 0;
  std::vector<int> caller_cpus_;  ///< where it might run before
  // Set by the caller before a round starts.
  entry function_ = nullptr;
  void* object_ = nullptr;
  int active_ = 1;  ///< members of this round
  team_width width_;
  std::uint64_t dispatches_ = 0;
  std::atomic<std::uint64_t> barriers_{0};
  word started_;   ///< number and width of the last round; workers wait for it to change
  word finished_;  ///< workers done, over all dispatches
  word arrived_;   ///< members at the current barrier
  word passed_;    ///< counts barriers
  word benched_;   ///< counts the times that workers left out are called back
  // What a member that waited too long leaves for the caller to weigh.
  std::atomic<std::uint32_t> under_way_{0};   ///< the round that the caller is in; 0: none
  std::atomic<std::uint32_t> ready_{0};       ///< the round in which a member was done long before the caller
  std::atomic<std::int64_t> ready_since_{0};  ///< when that was, in the clock's ticks
  std::atomic<std::int64_t> waited_{0};       ///< the longest wait at a barrier of this round, in nanoseconds
  std::vector<std::thread> workers_;
};

}  // namespace troupe::kernels
