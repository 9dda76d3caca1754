// What each message means for the generations of a shard. After every change, settle() sends what is due, tells the
// scheduler, and lets go of what nobody wants.
#include "actors/stream/stream_shard.hpp"

#include <algorithm>
#include <utility>

namespace troupe::actors {
namespace {

delivery refusal(generation_id id, std::uint64_t who, std::shared_ptr<event_sink> sink, error why) {
  delivery out{id, who, std::move(sink), {}};
  out.what.what = event::kind::failed;
  out.what.generation = id;
  out.what.why = std::move(why);
  return out;
}

}  // namespace

stream_shard::stream_shard(std::shared_ptr<const models::tokenizer> tokens, stream_limits limits,
                           std::shared_ptr<stream_counters> counters)
    : tokens_(std::move(tokens)), limits_(limits),
      counters_(counters ? std::move(counters) : std::make_shared<stream_counters>()) {}

void stream_shard::open(const opening& what, clock::time_point now, stream_outputs& out) {
  sweep(now);
  if (live_.contains(what.id)) {
    out.events.push_back(
        refusal(what.id, what.subscription, what.sink, {errc::internal, "this generation id is in use", {}}));
    return;
  }
  if (live_.size() - ended_.size() >= limits_.generations) {
    out.events.push_back(refusal(what.id, what.subscription, what.sink,
                                 {errc::overloaded, "too many generations are open; try again later", {}}));
    return;
  }
  held one{generation(what.what, tokens_, what.operators.get(), what.submitted), {}, what.keep, false, false};
  if (what.sink) one.subscribers.emplace_back(what.subscription, what.sink, 0, what.credit);
  counters_->subscribers += static_cast<std::int64_t>(one.subscribers.size());
  live_.emplace(what.id, std::move(one));
  ++counters_->opened;
  ++counters_->live;
  out.encode = true;
}

void stream_shard::admitted(generation_id id, std::int32_t prompt_tokens, clock::time_point now, stream_outputs& out) {
  const auto at = live_.find(id);
  if (at == live_.end() || at->second.state.ended()) {
    // It was cancelled on its way through the tokenizer; the scheduler's copy must not run for nobody.
    out.orders.push_back({sequence_order::kind::end, id});
    return;
  }
  at->second.state.admit(prompt_tokens);
  settle(at, now, out);
}

void stream_shard::prefill_started(generation_id id, clock::time_point when, std::int32_t cached_tokens) {
  if (const auto at = live_.find(id); at != live_.end()) at->second.state.begin_prefill(when, cached_tokens);
}

void stream_shard::step(const step_result& result, stream_outputs& out) {
  for (const step_token& token : result.tokens) {
    const auto at = live_.find(token.generation);
    if (at == live_.end() || at->second.ended) continue;
    count_token(at->second.state, token, result.ended);
    settle(at, result.ended, out);
  }
}

void stream_shard::failed(generation_id id, const error& why, clock::time_point now, stream_outputs& out) {
  const auto at = live_.find(id);
  if (at == live_.end()) return;
  at->second.state.fail(why, now);
  settle(at, now, out);
}

bool stream_shard::cancel(generation_id id, clock::time_point now, stream_outputs& out) {
  const auto at = live_.find(id);
  if (at == live_.end() || at->second.ended) return false;
  at->second.state.cancel(now);
  settle(at, now, out);
  return true;
}

void stream_shard::subscribe(generation_id id, std::uint64_t who, std::uint64_t offset,
                             std::shared_ptr<event_sink> sink, std::uint32_t credit, clock::time_point now,
                             stream_outputs& out) {
  const auto refuse = [&](errc code, const char* text) {
    out.events.push_back(refusal(id, who, sink, {code, text, {}}));
  };
  const auto at = live_.find(id);
  if (at == live_.end()) return refuse(errc::not_found, "no such generation; it may have ended too long ago");
  held& one = at->second;
  if (offset > one.state.log().size())
    return refuse(errc::invalid_argument, "the offset is past the end of the generation's log");
  if (one.subscribers.size() >= limits_.subscribers) return refuse(errc::overloaded, "too many watch this generation");
  one.subscribers.emplace_back(who, std::move(sink), offset, credit);
  ++counters_->subscribers;
  settle(at, now, out);
}

void stream_shard::unsubscribe(generation_id id, std::uint64_t who, clock::time_point now, stream_outputs& out) {
  const auto at = live_.find(id);
  if (at == live_.end()) return;
  counters_->subscribers -= static_cast<std::int64_t>(
      std::erase_if(at->second.subscribers, [who](const subscription& s) { return s.id() == who; }));
  settle(at, now, out);
}

void stream_shard::add_credit(generation_id id, std::uint64_t who, std::uint32_t events, clock::time_point now,
                              stream_outputs& out) {
  const auto at = live_.find(id);
  if (at == live_.end()) return;
  for (subscription& s : at->second.subscribers)
    if (s.id() == who) s.add_credit(events);
  settle(at, now, out);
}

void stream_shard::sweep(clock::time_point now) {
  while (!ended_.empty()) {
    const auto at = live_.find(ended_.front());
    const bool over = ended_.size() > limits_.ended_kept || now - at->second.state.ended_at() >= limits_.time_to_live;
    if (!over) return;
    erase(at);
  }
}

void stream_shard::stop(clock::time_point now, stream_outputs& out) {
  const error why{errc::shutting_down, "the server is ending", {}};
  for (auto at = live_.begin(); at != live_.end();) {
    const auto here = at++;  // settle may erase it
    auto& [id, one] = *here;
    one.state.fail(why, now);
    for (subscription& s : one.subscribers) {
      s.deliver(id, one.state, limits_.delta_bytes, out.events);
      s.deliver_end(id, one.state, why, out.events);
    }
    settle(here, now, out);
  }
}

const generation* stream_shard::find(generation_id id) const {
  const auto at = live_.find(id);
  return at == live_.end() ? nullptr : &at->second.state;
}

void stream_shard::settle(table::iterator at, clock::time_point now, stream_outputs& out) {
  auto& [id, one] = *at;
  const std::size_t events_before = out.events.size();
  for (subscription& s : one.subscribers) s.deliver(id, one.state, limits_.delta_bytes, out.events);
  counters_->events += out.events.size() - events_before;
  counters_->subscribers -=
      static_cast<std::int64_t>(std::erase_if(one.subscribers, [](const subscription& s) { return s.complete(); }));

  const bool unwanted = one.subscribers.empty() && !one.keep;
  if (unwanted && !one.state.ended()) one.state.cancel(now);
  if (one.state.ended() && !one.ended) settle_end(one, id, out);
  if (one.ended && unwanted) return erase(at);
  settle_pause(one, id, out);
}

void stream_shard::settle_end(held& one, generation_id id, stream_outputs& out) {
  one.ended = true;
  one.paused = false;
  ended_.push_back(id);
  count_end(one.state);
  if (one.state.ended_early()) out.orders.push_back({sequence_order::kind::end, id});
}

void stream_shard::settle_pause(held& one, generation_id id, stream_outputs& out) {
  if (one.ended) return;
  // Resumes at half of the limits, so that one event does not pause it again.
  const std::size_t part = one.paused ? 2 : 1;
  const bool all_lag = !one.subscribers.empty() &&
                       std::all_of(one.subscribers.begin(), one.subscribers.end(), [&](const subscription& s) {
                         return s.lags(one.state.log(), limits_.lag_bytes / part, limits_.lag_entries / part);
                       });
  if (all_lag == one.paused) return;
  one.paused = all_lag;
  if (all_lag) ++counters_->pauses;
  out.orders.push_back({all_lag ? sequence_order::kind::pause : sequence_order::kind::resume, id});
}

void stream_shard::erase(table::iterator at) {
  counters_->subscribers -= static_cast<std::int64_t>(at->second.subscribers.size());
  --counters_->ended_held;
  ended_.erase(std::find(ended_.begin(), ended_.end(), at->first));
  live_.erase(at);
}

void stream_shard::count_token(generation& one, const step_token& token, clock::time_point when) {
  const std::int32_t before = one.used().completion_tokens;
  const auto last = one.last_token_at();
  one.append(token, when);
  if (one.used().completion_tokens == before) return;
  ++counters_->tokens;
  if (before == 0) counters_->first_token.observe(when - one.submitted());
  else counters_->inter_token.observe(when - last);
}

void stream_shard::count_end(const generation& one) {
  --counters_->live;
  ++counters_->ended_held;
  if (one.failure()) ++counters_->failed;
  else if (one.last_event(0).reason == finish_reason::cancelled) ++counters_->cancelled;
  else ++counters_->finished;
}

std::string stream_shard::check() const {
  std::size_t ended = 0;
  for (const auto& [id, one] : live_) {
    ended += one.ended ? 1 : 0;
    if (one.ended != one.state.ended()) return "an end was not settled";
    if (one.subscribers.empty() && !one.keep) return "a generation that nobody wants is held";
    for (const subscription& s : one.subscribers) {
      if (s.cursor() > one.state.log().size()) return "a subscriber has read past the log";
      if (s.complete()) return "a subscriber stays after its last event";
      if (s.credit() > 0 && s.cursor() < one.state.log().size()) return "a delta is due and paid for but was not sent";
      if (s.credit() > 0 && one.ended) return "the last event is due and paid for but was not sent";
      if (one.paused && !s.lags(one.state.log(), limits_.lag_bytes / 2, limits_.lag_entries / 2))
        return "paused although a subscriber has caught up";
    }
    if (one.paused && (one.subscribers.empty() || one.ended)) return "paused for nobody";
  }
  return ended == ended_.size() ? "" : "the list of ended generations is wrong";
}

}  // namespace troupe::actors
