// The reading end of a generation in a C++ program: an edge of events whose credit is the subscription's.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include <troupe/edge.hpp>
#include <troupe/generation.hpp>

#include "pipelines/engine_service.hpp"

namespace troupe {

/// on_event on the runtime's threads; the rest on one reading thread, except cancel.
class generation::reader final : public event_sink {
public:
  static constexpr std::uint32_t window = 32;

  explicit reader(std::shared_ptr<pipelines::engine_service> service)
      : service_(std::move(service)), events_(window + 1) {}

  void opened(submission as) { as_ = as; }
  generation_id id() const noexcept { return as_.generation; }

  void on_event(const event& e) override {
    // Never more than the credit granted and one last event of a runtime that ends, so there is room.
    std::vector<event> one{e};
    events_.offer(one);
  }

  std::optional<event> next();
  std::optional<event> poll();
  bool ended() const noexcept { return ended_; }
  void on_ready(std::function<void()> wake) { events_.on_items(std::move(wake)); }
  void cancel() { service_->cancel(as_.generation, {}); }
  /// The program has let go of the generation.
  void leave();

private:
  std::optional<event> first();

  std::shared_ptr<pipelines::engine_service> service_;
  edge<event> events_;
  submission as_;
  std::vector<event> taken_;
  std::size_t next_taken_ = 0;
  std::uint32_t read_ = 0;  // events read and not yet paid back
  bool ended_ = false;
};

}  // namespace troupe
