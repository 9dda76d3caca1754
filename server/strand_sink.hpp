// An engine's events on their way to the strand of the connection that asked. Knows no shape of an answer.
#pragma once

#include <atomic>
#include <exception>
#include <memory>
#include <utility>

#include "server/exchange.hpp"

namespace troupe::server {

/// take() runs on the strand, until ended_ is set there.
class strand_sink : public event_sink, public running_answer, public std::enable_shared_from_this<strand_sink> {
public:
  void on_event(const event& e) final {
    if (ended_) return;
    try {
      to_->post([self = shared_from_this(), e] {
        if (!self->ended_) self->take(e);
      });
    } catch (const std::exception&) {  // no memory: an answer with a hole must not look whole
      to_->break_off();
    }
  }

protected:
  explicit strand_sink(std::shared_ptr<exchange> to) noexcept : to_(std::move(to)) {}
  virtual void take(const event& e) = 0;

  const std::shared_ptr<exchange> to_;
  std::atomic<bool> ended_{false};
};

}  // namespace troupe::server
