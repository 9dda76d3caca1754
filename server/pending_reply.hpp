// An answer that waits for one callback of the engine. Whoever comes first, callback or time limit, answers; a client
// that has left is not answered and not kept.
#pragma once

#include <functional>
#include <memory>

#include "server/exchange.hpp"

namespace troupe::server {

class pending_reply final : public running_answer {
public:
  explicit pending_reply(const std::shared_ptr<exchange>& to) : to_(to) {}

  /// From any thread. `write` runs on the strand, at most once of all that are given.
  void give(std::function<void(exchange&)> write) {
    // Weak: a callback that an engine never makes must not keep a connection.
    if (auto to = to_.lock())
      to->post([state = state_, to, write = std::move(write)] {
        if (!std::exchange(state->over, true)) write(*to);
      });
  }

  void written(std::uint32_t) override {}
  void client_gone() override { state_->over = true; }

private:
  struct shared_state {
    bool over = false;  ///< strand only
  };
  const std::weak_ptr<exchange> to_;
  const std::shared_ptr<shared_state> state_ = std::make_shared<shared_state>();
};

}  // namespace troupe::server
