// Two queues and a thread.
#include "actors/lane/lane_thread.hpp"

#include <utility>

namespace troupe::actors {

lane_thread::lane_thread() : thread_([this] { run(); }) {}

lane_thread::~lane_thread() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  filled_.notify_one();
  thread_.join();
}

void lane_thread::post(lane_priority priority, std::function<void()> job) {
  {
    const std::scoped_lock lock(mutex_);
    jobs_[static_cast<std::size_t>(priority)].push_back(std::move(job));
  }
  filled_.notify_one();
}

bool lane_thread::idle() const { return jobs_[0].empty() && jobs_[1].empty(); }

void lane_thread::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    filled_.wait(lock, [this] { return stopping_ || !idle(); });
    if (stopping_) return;
    auto& queue = jobs_[jobs_[0].empty() ? 1 : 0];
    auto job = std::move(queue.front());
    queue.pop_front();
    lock.unlock();
    job();
    job = nullptr;  // what it holds is freed before the lock is taken again
    lock.lock();
  }
}

}  // namespace troupe::actors
