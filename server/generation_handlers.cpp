// /v1/generations: open one that outlives its watchers, watch it from any offset as server-sent events, cancel it.
#include <charconv>
#include <limits>

#include "server/chat_request.hpp"
#include "server/error_table.hpp"
#include "server/event_credit.hpp"
#include "server/exchange.hpp"
#include "server/generation_json.hpp"
#include "server/handlers.hpp"
#include "server/pending_reply.hpp"
#include "server/server_state.hpp"
#include "server/strand_sink.hpp"

namespace troupe::server {
namespace {

/// Holds a place of the client's address until a generation has ended that may outlive its connection. Takes every
/// event, so that it holds nothing up.
class kept_place final : public event_sink {
public:
  static constexpr std::uint32_t every_event = std::numeric_limits<std::uint32_t>::max();

  kept_place(std::shared_ptr<server_state> server, address_shares::place place)
      : server_(std::move(server)), place_(std::move(place)) {}
  void on_event(const event& e) override {
    if (e.what == event::kind::done || e.what == event::kind::failed) place_ = {};
  }

private:
  const std::shared_ptr<server_state> server_;  ///< has the places
  address_shares::place place_;
};

/// Answers 201 when the generation has started, or with its error; then leaves it to its watchers.
class generation_opening final : public strand_sink {
public:
  explicit generation_opening(std::shared_ptr<exchange> to) : strand_sink(std::move(to)) {}

  void start(parsed_request ask) {
    auto& server = to_->server();
    if (server.addresses.has_limit(to_->peer())) {
      auto place = server.addresses.take(to_->peer());
      if (!place) return answer_error(*to_, server.too_many_from_one_address());
      kept_ = std::make_shared<kept_place>(server.shared_from_this(), std::move(place));
    }
    auto submitted = server.engine.submit(ask.model, std::move(ask.what), shared_from_this(), 1, true);
    if (!submitted) return answer_error(*to_, submitted.why());
    own_ = *submitted;
    to_->attach(shared_from_this());
  }

  void written(std::uint32_t) override {}
  void client_gone() override {  // nobody has learnt its name
    ended_ = true;
    to_->server().engine.cancel(own_.generation);
    to_->server().engine.unsubscribe(own_.generation, own_.subscription);
  }

private:
  void take(const event& e) override {
    ended_ = true;
    if (e.what == event::kind::failed) return answer_error(*to_, e.why);
    if (kept_) to_->server().engine.subscribe(own_.generation, 0, std::move(kept_), kept_place::every_event);
    to_->server().engine.unsubscribe(own_.generation, own_.subscription);
    const auto name = generation_name(own_.generation);
    to_->answer(
        {.status = 201, .body = "{\"id\":\"" + name + "\"}", .fields = {{"Location", "/v1/generations/" + name}}});
  }

  submission own_;
  std::shared_ptr<kept_place> kept_;  ///< where its address has a limit
};

class generation_watch final : public strand_sink {
public:
  generation_watch(std::shared_ptr<exchange> to, generation_id id)
      : strand_sink(std::move(to)), id_(id), name_(generation_name(id)) {}

  void start(std::uint64_t offset) {
    own_ = to_->server().engine.subscribe(id_, offset, shared_from_this(), event_credit);
    to_->attach(shared_from_this());
  }

  void written(std::uint32_t events) override { to_->server().engine.add_credit(id_, own_, events); }
  void client_gone() override {
    ended_ = true;
    to_->server().engine.unsubscribe(id_, own_);
  }

private:
  void take(const event& e) override {
    const bool last = e.what == event::kind::done || e.what == event::kind::failed;
    if (last) ended_ = true;
    if (e.what == event::kind::failed && !begun_) return answer_error(*to_, e.why);
    if (!std::exchange(begun_, true)) to_->begin_stream("text/event-stream");
    to_->stream(frame(e), last ? 0 : 1);
    if (last) to_->end_stream();
  }

  /// `id:` is where a watcher that comes back goes on. `started` carries none: it covers no part of the log.
  std::string frame(const event& e) const {
    std::string out = "event: ";
    out.append(event_name(e.what)).append("\n");
    if (e.what == event::kind::delta || e.what == event::kind::done)
      out.append("id: ").append(std::to_string(e.next_offset)).append("\n");
    return out.append("data: ").append(event_json(e, name_, {})).append("\n\n");
  }

  const generation_id id_;
  const std::string name_;
  subscription_id own_ = 0;
  bool begun_ = false;
};

error unknown_generation() { return {errc::not_found, "There is no such generation, or its time is over.", "id"}; }

}  // namespace

void open_generation(const std::shared_ptr<exchange>& e) {
  auto ask = parse_generation(e->body());
  if (!ask) return answer_error(*e, ask.why());
  std::make_shared<generation_opening>(e)->start(*std::move(ask));
}

void watch_generation(const std::shared_ptr<exchange>& e) {
  const auto id = generation_of(e->parameter());
  if (!id) return answer_error(*e, unknown_generation());
  if (e->head().method == "HEAD") return answer_error(*e, {errc::unsupported, "Events are read with GET.", {}});
  auto from = e->head().field("last-event-id");
  const char* param = "Last-Event-ID";
  if (from.empty()) from = e->head().query(param = "offset");
  std::uint64_t offset = 0;
  const auto [end, problem] = std::from_chars(from.data(), from.data() + from.size(), offset);
  if (!from.empty() && (problem != std::errc() || end != from.data() + from.size()))
    return answer_error(*e, {errc::invalid_argument, "The offset must be a whole number.", param});
  std::make_shared<generation_watch>(e, *id)->start(offset);
}

void cancel_generation(const std::shared_ptr<exchange>& e) {
  const auto id = generation_of(e->parameter());
  if (!id) return answer_error(*e, unknown_generation());
  auto reply_later = std::make_shared<pending_reply>(e);
  e->attach(reply_later);
  e->server().engine.cancel(*id, [reply_later](bool found) {
    reply_later->give([found](exchange& to) {
      if (!found) return answer_error(to, unknown_generation());
      to.answer({.status = 204});
    });
  });
}

}  // namespace troupe::server
