// How far events may run ahead of a client's socket. Knows no socket and no engine.
#pragma once

#include <cstdint>
#include <utility>

namespace troupe::server {

/// Events that a subscription begins with.
constexpr std::uint32_t event_credit = 16;

/// Credit on its way back: in lots, for each is a message to the engine, and well before a subscriber has none left.
class spent_credit {
public:
  static constexpr std::uint32_t lot = event_credit / 4;

  /// So many events have been written. What is to be given back now: 0, or all that is owed.
  std::uint32_t add(std::uint32_t events) noexcept {
    owed_ += events;
    return owed_ < lot ? 0 : std::exchange(owed_, 0);
  }

private:
  std::uint32_t owed_ = 0;
};

}  // namespace troupe::server
