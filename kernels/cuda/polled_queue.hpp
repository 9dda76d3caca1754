// A queue between threads whose takers look for a while before they sleep: waking a thread takes longer than what it
// is then given to do. Knows not what it hands over.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

namespace troupe::kernels::cuda {

/// Any thread may call anything.
template <class T>
class polled_queue {
public:
  /// `patience`: how long take() looks before it sleeps.
  explicit polled_queue(std::chrono::microseconds patience = std::chrono::milliseconds(1)) : patience_(patience) {}

  void push(T one) {
    put([&] { items_.push_back(std::move(one)); });
  }
  /// In front of the others.
  void push_first(T one) {
    put([&] { items_.push_front(std::move(one)); });
  }
  /// Waits for one. None: the queue is closed and empty.
  std::optional<T> take() {
    const auto until = std::chrono::steady_clock::now() + patience_;
    do {
      if (auto one = take_if_any()) return one;
      std::this_thread::yield();
    } while (!closed_.load(std::memory_order_relaxed) && std::chrono::steady_clock::now() < until);
    std::unique_lock lock(guard_);
    if (items_.empty() && !closed_) {
      ++asleep_;
      wake_.wait(lock, [&] { return closed_ || !items_.empty(); });
      --asleep_;
    }
    return first();
  }
  /// Does not wait.
  std::optional<T> take_if_any() {
    if (count_.load(std::memory_order_relaxed) == 0) return std::nullopt;
    const std::lock_guard lock(guard_);
    return first();
  }
  void clear() {
    const std::lock_guard lock(guard_);
    items_.clear();
    count_ = 0;
  }
  /// No more will come.
  void close() {
    {
      const std::lock_guard lock(guard_);
      closed_ = true;
    }
    wake_.notify_all();
  }

private:
  template <class Put>
  void put(const Put& into) {
    bool wake = false;
    {
      const std::lock_guard lock(guard_);
      into();
      count_ = items_.size();
      wake = asleep_ > 0;
    }
    if (wake) wake_.notify_one();
  }
  std::optional<T> first() {
    if (items_.empty()) return std::nullopt;
    std::optional<T> one(std::move(items_.front()));
    items_.pop_front();
    count_ = items_.size();
    return one;
  }

  const std::chrono::microseconds patience_;
  std::mutex guard_;
  std::condition_variable wake_;
  std::deque<T> items_;                // guard_
  int asleep_ = 0;                     // guard_
  std::atomic<std::size_t> count_{0};  // of items_, for those who look without the lock
  std::atomic<bool> closed_{false};
};

}  // namespace troupe::kernels::cuda
