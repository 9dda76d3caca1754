// What every shell of the engine shares: an exception in a handler ends the actor with a reason that the supervisor
// sees; stray messages are dropped silently instead of printed. Knows no room.
#pragma once

#include <exception>

#include <caf/all.hpp>

#include "actors/handles.hpp"
#include "actors/metrics.hpp"
#include "kernels/cuda/trace_range.hpp"

namespace troupe::actors {

/// Base of a shell with interface `Handle`. Keeps the links until the actor ends and counts what it sends. A profiler
/// sees its turns under its name.
template <class Handle>
class actor_base : public Handle::base {
public:
  actor_base(caf::actor_config& config, std::shared_ptr<engine_metrics> metrics)
      : Handle::base(config), metrics_(std::move(metrics)) {
    this->set_exception_handler([](std::exception_ptr&) -> caf::error { return caf::sec::runtime_error; });
    this->set_default_handler(caf::drop);
    this->set_down_handler([](const caf::down_msg&) {});
  }

  void on_exit() override { links_.reset(); }

  caf::resumable::resume_result resume(caf::execution_unit* on, std::size_t most) override {
    const kernels::cuda::trace_range turn(this->name());
    return Handle::base::resume(on, most);
  }

protected:
  /// One-way.
  template <class To, class Message>
  void tell(const To& to, Message message) {
    if (!to) return;
    metrics_->messages.fetch_add(1, std::memory_order_relaxed);
    caf::anon_send(to, std::move(message));
  }

  void stop() {
    links_.reset();
    this->quit();
  }

  std::shared_ptr<engine_metrics> metrics_;
  std::shared_ptr<const engine_links> links_;
};

}  // namespace troupe::actors
