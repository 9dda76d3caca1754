// Each live generation is a sink of its own; its credit comes back frame by frame as frames are written.
#include "server/live_generations.hpp"

#include <atomic>
#include <exception>

#include "server/event_credit.hpp"
#include "server/generation_json.hpp"

namespace troupe::server {

class live_generations::subscriber final : public event_sink, public std::enable_shared_from_this<subscriber> {
public:
  subscriber(live_generations& owner, std::weak_ptr<frame_writer> to, std::string id, std::string model,
             address_shares::place place)
      : owner_(owner), to_(std::move(to)), id_(std::move(id)), model_(std::move(model)), place_(std::move(place)) {}

  void on_event(const event& e) override {
    if (ended_) return;
    const auto to = to_.lock();
    if (!to) return;
    try {
      to->post([self = shared_from_this(), to, e] { self->take(e, *to); });
    } catch (const std::exception&) {  // no memory: an answer with a hole must not look whole
      to->break_off();
    }
  }

  void end() noexcept {
    ended_ = true;
    place_ = {};
    try {
      if (own.generation != 0) owner_.engine_.unsubscribe(own.generation, own.subscription);
    } catch (const std::exception&) {
      // It runs to its own end.
    }
  }

  submission own;

private:
  void take(const event& e, frame_writer& to) {
    if (ended_) return;
    const bool last = e.what == event::kind::done || e.what == event::kind::failed;
    if (last) {
      ended_ = true;
      place_ = {};
      to.send(event_json(e, id_, model_), {});
      return owner_.forget(id_, to);
    }
    to.send(event_json(e, id_, model_), [self = shared_from_this()] {
      if (const auto back = self->spent_.add(1); back > 0 && !self->ended_)
        self->owner_.engine_.add_credit(self->own.generation, self->own.subscription, back);
    });
  }

  live_generations& owner_;  ///< lives while !ended_
  const std::weak_ptr<frame_writer> to_;
  const std::string id_, model_;
  address_shares::place place_;  ///< given back on the strand, at the end
  spent_credit spent_;
  std::atomic<bool> ended_{false};  ///< set on the strand; read anywhere
};

void live_generations::receive(std::string_view frame, const std::shared_ptr<frame_writer>& to) {
  auto message = parse_client_message(frame);
  switch (message.what) {
    case client_message::kind::unreadable: return to->send(error_frame(message.wrong, message.id), {});
    case client_message::kind::generate: return generate(std::move(message), to);
    case client_message::kind::cancel:
      // One that has just ended is no error: its `done` is on the way.
      if (const auto it = live_.find(message.id); it != live_.end()) engine_.cancel(it->second->own.generation);
      return;
  }
}

void live_generations::generate(client_message message, const std::shared_ptr<frame_writer>& to) {
  const auto refuse = [&](error why) { to->send(error_frame(why, message.id), {}); };
  if (refusing_) return refuse({errc::shutting_down, "The server is ending.", {}});
  if (live_.contains(message.id))
    return refuse({errc::invalid_argument, "A generation of this id is still running.", "id"});
  if (const auto limit = server_.options.max_live_generations; live_.size() >= limit)
    return refuse({errc::overloaded, "This socket already runs " + std::to_string(limit) + " generations.", {}});
  if (server_.memory.now() != memory_level::enough) return refuse(server_state::memory_is_low());
  auto place = server_.addresses.take(whose_);
  if (!place) return refuse(server_.too_many_from_one_address());
  auto model = message.ask.model;
  if (model.empty())
    if (const auto cards = engine_.models(); !cards.empty()) model = cards.front().name;
  auto made = std::make_shared<subscriber>(*this, to, message.id, std::move(model), std::move(place));
  const auto here = live_.emplace(message.id, made).first;
  auto submitted = engine_.submit(message.ask.model, std::move(message.ask.what), made, event_credit, false);
  if (submitted) {
    made->own = *submitted;
    return;
  }
  live_.erase(here);
  refuse(submitted.why());
}

void live_generations::forget(const std::string& id, frame_writer& to) {
  live_.erase(live_.find(id));
  if (live_.empty()) to.generations_ended();
}

void live_generations::drop_all() noexcept {
  for (auto& [id, one] : live_) one->end();
  live_.clear();
}

}  // namespace troupe::server
