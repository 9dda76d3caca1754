// An answer as a C++ program reads it. Knows no model and shows no actors.
#pragma once

#include <cstddef>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <troupe/event.hpp>

namespace troupe {

/// An answer as it comes: an input range of events, started first, then deltas, then done. What is not read is not
/// computed far ahead: the reader's credit reaches the decode step. Dropping it cancels the generation. One thread
/// reads at a time.
class generation {
public:
  class iterator;

  generation(generation&&) noexcept;
  generation& operator=(generation&&) noexcept;
  ~generation();

  generation_id id() const noexcept;
  /// Waits. Nothing: the last event has been read. Throws `failure` where the generation failed.
  std::optional<event> next();
  /// The rest of the answer, read to its end.
  std::string text();
  /// Ends it: a done event (cancelled) will follow what is on its way. Any thread.
  void cancel();

  /// Without waiting. Empty while nothing is there and after the end; `ended` tells which. A failed event is returned,
  /// not thrown. `on_ready` is called on a thread of the runtime when there is something after an empty poll.
  std::optional<event> poll();
  bool ended() const;
  void on_ready(std::function<void()> wake);

  iterator begin();
  std::default_sentinel_t end() const noexcept { return {}; }

private:
  friend class model;
  class reader;
  explicit generation(std::shared_ptr<reader> r) : reader_(std::move(r)) {}
  std::shared_ptr<reader> reader_;
};

class generation::iterator {
public:
  using value_type = event;
  using difference_type = std::ptrdiff_t;

  explicit iterator(generation& from) : from_(&from), current_(from.next()) {}
  const event& operator*() const { return *current_; }
  const event* operator->() const { return &*current_; }
  iterator& operator++() {
    current_ = from_->next();
    return *this;
  }
  void operator++(int) { ++*this; }
  bool operator==(std::default_sentinel_t) const noexcept { return !current_; }

private:
  generation* from_;
  std::optional<event> current_;
};

}  // namespace troupe
