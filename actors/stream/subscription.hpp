// One watcher of one generation: how far it has read and how many events it may still be sent. Plain value.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "actors/stream/generation.hpp"

namespace troupe::actors {

struct delivery {
  std::uint64_t generation = 0;
  std::uint64_t subscription = 0;
  std::shared_ptr<event_sink> sink;
  event what;
};

class subscription {
public:
  subscription(std::uint64_t id, std::shared_ptr<event_sink> sink, std::uint64_t offset, std::uint32_t credit)
      : id_(id), sink_(std::move(sink)), cursor_(offset), credit_(credit) {}

  std::uint64_t id() const noexcept { return id_; }
  std::uint64_t cursor() const noexcept { return cursor_; }
  std::uint32_t credit() const noexcept { return credit_; }
  /// It has had done or failed: nothing follows.
  bool complete() const noexcept { return complete_; }

  void add_credit(std::uint32_t events) noexcept {
    constexpr std::uint32_t most = std::numeric_limits<std::uint32_t>::max();
    credit_ = events > most - credit_ ? most : credit_ + events;
  }

  /// Appends what this watcher is due and can pay for: started, all it has not read in deltas of about `delta_bytes` at
  /// most, the end.
  void deliver(std::uint64_t generation_id, const generation& from, std::size_t delta_bytes,
               std::vector<delivery>& out);

  /// The shard ends: this watcher gets its last event without paying, `why` where it had not had all the text.
  void deliver_end(std::uint64_t generation_id, const generation& from, const error& why, std::vector<delivery>& out);

  /// Whether it is further behind than both limits allow.
  bool lags(const token_log& log, std::size_t bytes, std::size_t entries) const noexcept {
    return log.size() - cursor_ > entries || log.text_bytes_from(cursor_) > bytes;
  }

private:
  bool spend() noexcept { return credit_ > 0 && credit_-- > 0; }

  std::uint64_t id_;
  std::shared_ptr<event_sink> sink_;
  std::uint64_t cursor_;
  std::uint32_t credit_;
  bool started_ = false;
  bool complete_ = false;
};

}  // namespace troupe::actors
