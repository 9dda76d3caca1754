// One thread that runs jobs in order, decode jobs before prefill jobs. Knows no step and no actor.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <thread>

#include "actors/lane/job_queue.hpp"

namespace troupe::actors {

/// Sleeps while there is nothing to do. A waiting prefill job is overtaken by at most `most_overtaken` decode jobs, so
/// that prompts get on under steady decoding.
class lane_thread final : public job_queue {
public:
  static constexpr std::int32_t most_overtaken = 4;

  lane_thread();
  /// Stops and joins: waits for the job in hand.
  ~lane_thread() override;
  lane_thread(const lane_thread&) = delete;
  lane_thread& operator=(const lane_thread&) = delete;

  bool post(lane_kind kind, job what) override;
  /// The job in hand ends, those waiting are dropped unrun. Returns at once; any thread.
  void stop();
  /// True once the thread has run its last job.
  bool stopped_within(std::chrono::milliseconds limit);

private:
  void loop();
  job take();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable gone_;
  std::deque<job> decode_;
  std::deque<job> prefill_;
  std::int32_t overtaken_ = 0;
  bool stopping_ = false;
  bool finished_ = false;
  std::thread thread_;
};

}  // namespace troupe::actors
