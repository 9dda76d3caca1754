// Each handler: one call on the core, then its outputs on their way. A sink that throws loses its subscription.
#include "actors/stream/stream_actor.hpp"

#include <utility>

#include "actors/actor_base.hpp"
#include "actors/stream/stream_shard.hpp"

namespace troupe::actors {
namespace {

constexpr std::chrono::seconds sweep_period{5};

class stream_actor : public actor_base<stream_handle> {
public:
  stream_actor(caf::actor_config& config, stream_setup setup)
      : actor_base(config, setup.metrics ? setup.metrics : std::make_shared<engine_metrics>()), index_(setup.index),
        shard_(setup.tokenizer, setup.limits, setup.counters) {}

  const char* name() const override { return "stream"; }

protected:
  behavior_type make_behavior() override {
    return {
        [this](const open_generation& m) { open(m); },
        [this](const generation_admitted& m) {
          act([&](stream_outputs& out) { shard_.admitted(m.id, m.prompt_tokens, clock::now(), out); });
        },
        [this](const prefill_started& m) { shard_.prefill_started(m.id, m.when, m.cached_tokens); },
        [this](const generation_failed& m) {
          act([&](stream_outputs& out) { shard_.failed(m.id, m.why, clock::now(), out); });
        },
        [this](const step_tokens& m) { act([&](stream_outputs& out) { shard_.step(*m.result, out); }); },
        [this](const open_subscription& m) {
          act([&](stream_outputs& out) {
            shard_.subscribe(m.id, m.subscription, m.offset, m.sink, m.credit, clock::now(), out);
          });
        },
        [this](const close_subscription& m) {
          act([&](stream_outputs& out) { shard_.unsubscribe(m.id, m.subscription, clock::now(), out); });
        },
        [this](const grant_credit& m) {
          act([&](stream_outputs& out) { shard_.add_credit(m.id, m.subscription, m.events, clock::now(), out); });
        },
        [this](const cancel_generation& m) {
          bool found = false;
          act([&](stream_outputs& out) { found = shard_.cancel(m.id, clock::now(), out); });
          if (m.found) m.found(found);
        },
        [this](const sweep_generations&) {
          shard_.sweep(clock::now());
          this->delayed_send(stream_handle(this), sweep_period, sweep_generations{});
        },
        [this](const wire_engine& m) {
          links_ = m.links;
          this->delayed_send(stream_handle(this), sweep_period, sweep_generations{});
        },
        [this](const stop_actor&) {
          act([&](stream_outputs& out) { shard_.stop(clock::now(), out); });
          stop();
        },
    };
  }

private:
  void open(const open_generation& m) {
    act([&](stream_outputs& out) {
      shard_.open({m.id, m.what, m.operators, m.subscription, m.sink, m.credit, m.keep, m.submitted}, clock::now(),
                  out);
      if (!out.encode) return;
      if (links_ && !links_->tokenizers.empty())
        tell(links_->tokenizers[next_tokenizer_++ % links_->tokenizers.size()], encode_prompt{m.id, m.what, index_});
      else shard_.failed(m.id, {errc::shutting_down, "the engine is not running", {}}, clock::now(), out);
    });
  }

  template <class Call>
  void act(Call call) {
    stream_outputs out;
    call(out);
    while (deliver(out)) {
    }
  }

  // True where a sink threw: it is unsubscribed, which may lead to more.
  bool deliver(stream_outputs& out) {
    stream_outputs more;
    for (const sequence_order& order : out.orders) pass_on(order);
    for (const delivery& d : out.events) {
      try {
        d.sink->on_event(d.what);
      } catch (...) {
        shard_.unsubscribe(d.generation, d.subscription, clock::now(), more);
      }
    }
    out = std::move(more);
    return !out.events.empty() || !out.orders.empty();
  }

  // Overtakes other mail.
  void urge(const scheduler_handle& to, end_sequence message) {
    metrics_->messages.fetch_add(1, std::memory_order_relaxed);
    caf::anon_send<caf::message_priority::high>(to, message);
  }

  void pass_on(const sequence_order& order) {
    if (!links_) return;
    switch (order.what) {
      case sequence_order::kind::end: return urge(links_->scheduler, end_sequence{order.id});
      case sequence_order::kind::pause: return tell(links_->scheduler, pause_sequence{order.id});
      case sequence_order::kind::resume: return tell(links_->scheduler, resume_sequence{order.id});
    }
  }

  std::uint32_t index_;
  stream_shard shard_;
  std::size_t next_tokenizer_ = 0;
};

}  // namespace

stream_handle spawn_stream(caf::actor_system& system, stream_setup setup) {
  return system.spawn<stream_actor>(std::move(setup));
}

}  // namespace troupe::actors
