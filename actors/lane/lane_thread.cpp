// Two deques, a mutex, a thread.
#include "actors/lane/lane_thread.hpp"

#include <utility>

namespace troupe::actors {

lane_thread::lane_thread() : thread_([this] { loop(); }) {}

lane_thread::~lane_thread() {
  stop();
  thread_.join();
}

bool lane_thread::post(lane_kind kind, job what) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return false;
    (kind == lane_kind::decode ? decode_ : prefill_).push_back(std::move(what));
  }
  wake_.notify_one();
  return true;
}

void lane_thread::stop() {
  std::deque<job> dropped[2];  // destroyed outside the lock: a job's captures may do anything
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    dropped[0].swap(decode_);
    dropped[1].swap(prefill_);
  }
  wake_.notify_one();
}

bool lane_thread::stopped_within(std::chrono::milliseconds limit) {
  std::unique_lock lock(mutex_);
  return gone_.wait_for(lock, limit, [this] { return finished_; });
}

void lane_thread::loop() {
  for (;;) {
    job next;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stopping_ || !decode_.empty() || !prefill_.empty(); });
      if (stopping_) {
        finished_ = true;
        gone_.notify_all();
        return;
      }
      next = take();
    }
    next();
  }
}

lane_thread::job lane_thread::take() {
  const bool decode = !decode_.empty() && (prefill_.empty() || overtaken_ < most_overtaken);
  overtaken_ = decode && !prefill_.empty() ? overtaken_ + 1 : 0;
  auto& from = decode ? decode_ : prefill_;
  job next = std::move(from.front());
  from.pop_front();
  return next;
}

}  // namespace troupe::actors
