// The one thread that drives a lane: jobs in order of priority, then of arrival. Knows no actor and no job.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace troupe::actors {

enum class lane_priority : std::uint8_t { decode, prefill };

/// post() may be called from any thread, also by a job. A job must not throw.
class lane_thread {
public:
  lane_thread();
  /// Waits for the job in hand; jobs that still wait are dropped without being run.
  ~lane_thread();
  lane_thread(const lane_thread&) = delete;
  lane_thread& operator=(const lane_thread&) = delete;

  void post(lane_priority priority, std::function<void()> job);

private:
  void run();
  bool idle() const;

  std::mutex mutex_;
  std::condition_variable filled_;
  std::array<std::deque<std::function<void()>>, 2> jobs_;  ///< by priority
  bool stopping_ = false;
  std::thread thread_;  ///< last: it uses all of the above
};

}  // namespace troupe::actors
