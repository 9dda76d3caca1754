// An edge of a pipeline: a bounded queue between one producer and one consumer that moves batches, closes forwards and
// cancels backwards. Credit is the room left: a slow consumer stops its producer. Knows no actors; blocking calls are
// for plain threads, the others with their wakes for actors, which must not block. Any thread; one lock.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <iterator>
#include <mutex>
#include <utility>
#include <vector>

namespace troupe {

template <class T>
class edge {
public:
  /// Room for `capacity` items, at least one.
  explicit edge(std::size_t capacity) : capacity_(capacity > 0 ? capacity : 1) {}

  // --- producer ---
  /// Moves items from the front of `batch` while there is room. What stays in `batch` has no credit yet: `on_room`
  /// will be called when there is room, or when the consumer has cancelled, which makes this drop the batch.
  void offer(std::vector<T>& batch) {
    notify after(*this);
    const std::lock_guard lock(mutex_);
    if (cancelled_) return batch.clear();
    const std::size_t count = std::min(batch.size(), capacity_ - items_.size());
    const auto end = batch.begin() + static_cast<std::ptrdiff_t>(count);
    items_.insert(items_.end(), std::make_move_iterator(batch.begin()), std::make_move_iterator(end));
    batch.erase(batch.begin(), end);
    wants_room_ = !batch.empty();
    if (count > 0) after.items();
  }
  /// Waits for room for the whole batch. False: the consumer has cancelled.
  bool push(std::vector<T> batch) {
    while (true) {
      offer(batch);
      std::unique_lock lock(mutex_);
      if (batch.empty()) return !cancelled_;
      changed_.wait(lock, [this] { return cancelled_ || items_.size() < capacity_; });
    }
  }
  bool push(T item) {
    std::vector<T> batch;
    batch.push_back(std::move(item));
    return push(std::move(batch));
  }
  /// Nothing follows.
  void close() {
    notify after(*this);
    const std::lock_guard lock(mutex_);
    closed_ = true;
    after.items();
  }
  bool cancelled() const {
    const std::lock_guard lock(mutex_);
    return cancelled_;
  }
  void on_room(std::function<void()> wake) {
    const std::lock_guard lock(mutex_);
    room_wake_ = std::move(wake);
  }

  // --- consumer ---
  /// Appends up to `most` items to `out` and says how many. 0: `on_items` will be called when there are some or the
  /// producer has closed.
  std::size_t take(std::vector<T>& out, std::size_t most) {
    notify after(*this);
    const std::lock_guard lock(mutex_);
    const std::size_t count = std::min(most, items_.size());
    const auto end = items_.begin() + static_cast<std::ptrdiff_t>(count);
    out.insert(out.end(), std::make_move_iterator(items_.begin()), std::make_move_iterator(end));
    items_.erase(items_.begin(), end);
    wants_items_ = count == 0;
    if (count > 0) after.room();
    return count;
  }
  /// Waits for items. False: the producer has closed and nothing is left, or cancel() was called.
  bool pop(std::vector<T>& out, std::size_t most) {
    while (take(out, most) == 0) {
      std::unique_lock lock(mutex_);
      if (items_.empty() && (closed_ || cancelled_)) return false;
      changed_.wait(lock, [this] { return closed_ || cancelled_ || !items_.empty(); });
    }
    return true;
  }
  /// The consumer wants no more: what waits is dropped and the producer told.
  void cancel() {
    notify after(*this);
    const std::lock_guard lock(mutex_);
    cancelled_ = true;
    items_.clear();
    wants_room_ = true;
    after.room();
  }
  /// Closed or cancelled, and nothing waits.
  bool finished() const {
    const std::lock_guard lock(mutex_);
    return (closed_ || cancelled_) && items_.empty();
  }
  void on_items(std::function<void()> wake) {
    const std::lock_guard lock(mutex_);
    items_wake_ = std::move(wake);
  }
  std::size_t size() const {
    const std::lock_guard lock(mutex_);
    return items_.size();
  }

private:
  // Declared before the lock, so that wakes run after it is released: they may call back.
  class notify {
  public:
    explicit notify(edge& e) : edge_(e) {}
    ~notify() {
      if (any_) edge_.changed_.notify_all();
      if (wake_) wake_();
    }
    void items() {
      any_ = true;
      if (std::exchange(edge_.wants_items_, false)) wake_ = edge_.items_wake_;
    }
    void room() {
      any_ = true;
      if (std::exchange(edge_.wants_room_, false)) wake_ = edge_.room_wake_;
    }

  private:
    edge& edge_;
    std::function<void()> wake_;
    bool any_ = false;
  };

  const std::size_t capacity_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<T> items_;
  bool closed_ = false;
  bool cancelled_ = false;
  bool wants_items_ = true;  // the consumer found nothing and waits for a wake
  bool wants_room_ = false;  // the producer found no room and waits for a wake
  std::function<void()> items_wake_;
  std::function<void()> room_wake_;
};

}  // namespace troupe
