// Each message is one call on the planner; each output is one message.
#include "actors/scheduler/scheduler_actor.hpp"

#include <optional>

#include "actors/actor_base.hpp"
#include "actors/scheduler/step_watch.hpp"
#include "base/log.hpp"

namespace troupe::actors {
namespace {

class scheduler_actor : public actor_base<scheduler_handle> {
public:
  scheduler_actor(caf::actor_config& config, scheduler_setup setup)
      : actor_base(config, setup.metrics), planner_(setup.planner), now_(std::move(setup.now)), watch_(setup.patience),
        on_lost_(std::move(setup.on_lost)) {}

  const char* name() const override { return "scheduler"; }

protected:
  behavior_type make_behavior() override {
    return {
        [this](const admit_sequence& m) {
          act([&](planner_outputs& out) {
            if (broken_) out.failures.push_back({m.terms->generation, m.shard, *broken_});
            else planner_.admit(m.terms, m.prompt, m.shard, out);
          });
        },
        [this](const end_sequence& m) { act([&](planner_outputs& out) { planner_.end(m.id, out); }); },
        [this](const pause_sequence& m) { act([&](planner_outputs& out) { planner_.pause(m.id, true, out); }); },
        [this](const resume_sequence& m) { act([&](planner_outputs& out) { planner_.pause(m.id, false, out); }); },
        [this](const step_done& m) {
          watch_.ended(m.result->lane, now_());
          act([&](planner_outputs& out) { planner_.done(*m.result, out); });
        },
        [this](const blocks_granted& m) {
          act([&](planner_outputs& out) { planner_.granted(m.grants, m.free_blocks, out); });
        },
        [this](const blocks_arrived& m) { act([&](planner_outputs& out) { planner_.arrived(m.grants, out); }); },
        [this](const probe_engine& m) {
          if (broken_) return m.answer(*broken_);
          if (links_) tell(links_->decode, probe_lane{[answer = m.answer] { answer({}); }});
        },
        [this](const check_steps&) { look(); },
        [this](const fail_sequences& m) { lose(m.why); },
        [this](const drain_scheduler& m) {
          drained_ = m.drained;
          planner_.close();
          act([](planner_outputs&) {});
        },
        [this](const wire_engine& m) { links_ = m.links; },
        [this](const stop_actor&) { stop(); },
    };
  }

private:
  template <class Call>
  void act(Call call) {
    if (!links_) return;
    planner_outputs out;
    call(out);
    send_on(out);
    count(out);
    if (drained_ && planner_.empty()) report_drained();
  }

  /// On the lane's thread, behind what it is telling the shards; a lane that hangs says nothing any more.
  void report_drained() {
    if (broken_) drained_();
    else tell(links_->decode, probe_lane{std::move(drained_)});
    drained_ = nullptr;
  }

  void lose(const error& why) {
    const bool first = !broken_;
    broken_ = why;
    metrics_->healthy.store(false, std::memory_order_relaxed);
    act([&](planner_outputs& out) { planner_.fail_all(why, out); });
    if (!first) return;
    base::log(base::log_level::error, "scheduler", "the engine is lost: " + why.text);
    if (on_lost_) on_lost_(why);
  }

  /// A step that never ends holds its lane's thread for good: nothing can be computed here any more.
  void look() {
    looking_ = false;
    if (broken_ || !links_) return;
    if (const auto late = watch_.overdue(now_())) {
      const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(*late).count();
      metrics_->hung_steps.fetch_add(1, std::memory_order_relaxed);
      return lose(
          {errc::internal, "A step has not ended for " + std::to_string(seconds) + " s; its device hangs.", {}});
    }
    look_later();
  }

  void look_later() {
    if (looking_ || broken_ || watch_.patience() == clock::duration::zero() || !watch_.running()) return;
    looking_ = true;
    caf::delayed_anon_send(caf::actor_cast<scheduler_handle>(this), watch_.patience() / 16, check_steps{});
  }

  void send_on(planner_outputs& out) {
    if (!out.computed.empty()) tell(links_->kv_store, offer_blocks{std::move(out.computed)});
    if (!out.releases.empty()) tell(links_->kv_store, release_blocks{std::move(out.releases)});
    if (!out.needs.empty()) tell(links_->kv_store, reserve_blocks{std::move(out.needs)});
    for (const auto& routed : out.plans) watch_.planned(routed.lane, now_());
    look_later();
    for (auto& [lane, plan] : out.plans)
      tell(lane == lane_kind::decode ? links_->decode : links_->prefill, run_step{std::move(plan)});
    for (const auto& one : out.admitted)
      tell(shard(one.shard), generation_admitted{one.id, one.prompt_tokens, one.max_tokens});
    for (const auto& one : out.started) tell(shard(one.shard), prefill_started{one.id, now_(), one.cached});
    for (auto& one : out.failures) tell(shard(one.shard), generation_failed{one.id, std::move(one.why)});
  }

  const stream_handle& shard(std::uint32_t index) const { return links_->streams[index % links_->streams.size()]; }

  void count(const planner_outputs& out) {
    const auto add = [](auto& counter, std::size_t n) { counter.fetch_add(n, std::memory_order_relaxed); };
    for (const auto& one : out.admitted) add(metrics_->prompt_tokens, static_cast<std::size_t>(one.prompt_tokens));
    add(metrics_->prefix_cache_hit_tokens, static_cast<std::size_t>(out.cached_rows));
    add(metrics_->preemptions, static_cast<std::size_t>(out.preemptions));
    add(metrics_->refused, out.failures.size());
    metrics_->queued.store(static_cast<std::int64_t>(planner_.queued()), std::memory_order_relaxed);
    metrics_->running.store(static_cast<std::int64_t>(planner_.running()), std::memory_order_relaxed);
  }

  step_planner planner_;
  std::function<clock::time_point()> now_;
  std::function<void()> drained_;
  std::optional<error> broken_;
  step_watch watch_;
  std::function<void(const error&)> on_lost_;
  bool looking_ = false;  // a check is on its way
};

}  // namespace

scheduler_handle spawn_scheduler(caf::actor_system& system, scheduler_setup setup) {
  return system.spawn<scheduler_actor>(std::move(setup));
}

}  // namespace troupe::actors
