// A plan is a job; a job's end is two kinds of message.
#include "actors/lane/lane_actor.hpp"

#include <algorithm>
#include <exception>
#include <string>

#include "actors/actor_base.hpp"

namespace troupe::actors {
namespace {

/// Of the actor, and of its jobs on the lane's thread where a profiler shows them.
const char* name_of(lane_kind kind) { return kind == lane_kind::decode ? "decode" : "prefill"; }

/// How many messages: one for each shard that has a token in it.
std::uint64_t tell_shards(const engine_links& links, const std::shared_ptr<const step_result>& result) {
  std::vector<bool> told(links.streams.size(), false);
  std::uint64_t messages = 0;
  for (const step_token& token : result->tokens) {
    const std::size_t shard = token.generation % told.size();
    if (told[shard]) continue;
    told[shard] = true;
    ++messages;
    caf::anon_send(links.streams[shard], step_tokens{result});
  }
  return messages;
}

void tell_scheduler(const engine_links& links, const std::shared_ptr<const step_result>& result) {
  if (result->lane_lost) caf::anon_send(links.scheduler, fail_sequences{*result->lane_lost});
  caf::anon_send(links.scheduler, step_done{result});
}

bool answers_end(const step_result& result) {
  return std::any_of(result.tokens.begin(), result.tokens.end(),
                     [](const step_token& t) { return t.end == sequence_end::eos || t.end == sequence_end::length; });
}

/// On the lane's thread. Readers hear first, but of an end the scheduler does: who goes on from an answer the moment it
/// has been read is to find what was computed for it.
void report(const engine_links& links, engine_metrics& metrics, const std::shared_ptr<const step_result>& result) {
  const bool scheduler_first = answers_end(*result);
  if (scheduler_first) tell_scheduler(links, result);
  const std::uint64_t to_shards = tell_shards(links, result);
  if (!scheduler_first) tell_scheduler(links, result);
  metrics.messages.fetch_add(to_shards + 1, std::memory_order_relaxed);
}

void measure(engine_metrics& metrics, bool follows, const step_result& result) {
  const auto nanoseconds = [](clock::time_point t) { return std::chrono::nanoseconds(t.time_since_epoch()).count(); };
  const auto add = [](auto& counter, auto n) {
    counter.fetch_add(static_cast<std::uint64_t>(n), std::memory_order_relaxed);
  };
  const auto failed = std::count_if(result.tokens.begin(), result.tokens.end(),
                                    [](const step_token& t) { return t.end == sequence_end::failed; });
  add(metrics.steps, 1);
  add(metrics.sampled_tokens, static_cast<std::ptrdiff_t>(result.tokens.size()) - failed);
  add(metrics.failed_sequences, failed);
  add(metrics.prefill_rows, result.prefill_rows);
  add(metrics.decode_rows, result.decode_rows);
  metrics.step_time.observe(result.ended - result.started);
  const auto last = metrics.last_step_ns.load(std::memory_order_relaxed);
  if (follows && last != 0)  // on a device a step may begin before the last one has ended
    metrics.step_gap.observe(std::chrono::nanoseconds(std::max<std::int64_t>(0, nanoseconds(result.started) - last)));
  metrics.last_step_ns.store(nanoseconds(result.ended), std::memory_order_relaxed);
}

/// Nothing that a step throws leaves the job: it costs the sequences of that step.
template <class Call>
auto guarded(step_machine& machine, const step_plan& plan, const Call& call) -> decltype(call()) {
  try {
    return call();
  } catch (const std::bad_alloc&) {
    return {machine.fail(plan, {errc::out_of_memory, "There is not enough memory for this step.", {}})};
  } catch (const std::exception& e) {
    return {machine.fail(plan, {errc::internal, std::string("A step failed: ") + e.what(), {}})};
  }
}

/// One plan on its way through the lane: begun there, waited for elsewhere if a device computes it, finished there.
struct lane_run {
  lane_setup setup;
  std::shared_ptr<const engine_links> links;
  std::shared_ptr<const step_plan> plan;
  clock::time_point started;

  const char* name() const { return name_of(plan->lane); }
  void begin() {
    const kernels::cuda::trace_range step(name());
    started = setup.now();
    auto begun = guarded(*setup.machine, *plan, [this] { return setup.machine->begin(*plan); });
    if (begun.result) return end(*std::move(begun.result));
    setup.waiting->post_in_order([run = *this, ticket = begun.ticket] {
      run.setup.machine->wait(run.plan->lane, ticket);
      // The kind decode for all: steps of one queue finish in their order.
      run.setup.queue->post(lane_kind::decode, [run]() mutable { run.finish(); });
    });
  }
  void finish() {
    const kernels::cuda::trace_range step(name());
    end(guarded(*setup.machine, *plan, [this] { return setup.machine->finish(plan->lane); }));
  }
  void end(step_result of) {
    auto result = std::make_shared<step_result>(std::move(of));
    result->lane = plan->lane;
    result->started = started;
    result->ended = setup.now();
    measure(*setup.metrics, plan->follows, *result);
    report(*links, *setup.metrics, result);
  }
};

class lane_actor : public actor_base<lane_handle> {
public:
  lane_actor(caf::actor_config& config, lane_kind kind, lane_setup setup)
      : actor_base(config, setup.metrics), kind_(kind), setup_(std::move(setup)) {}

  const char* name() const override { return name_of(kind_); }

protected:
  behavior_type make_behavior() override {
    return {
        [this](const run_step& m) { run(m.plan); },
        [this](const probe_lane& m) { setup_.queue->post(kind_, m.answer); },
        [this](const wire_engine& m) { links_ = m.links; },
        [this](const stop_actor&) { stop(); },
    };
  }

private:
  void run(const std::shared_ptr<const step_plan>& plan) {
    if (!links_) return;
    setup_.queue->post(kind_, [run = lane_run{setup_, links_, plan, {}}]() mutable { run.begin(); });
  }

  lane_kind kind_;
  lane_setup setup_;
};

}  // namespace

lane_handle spawn_lane_actor(caf::actor_system& system, lane_kind kind, lane_setup setup) {
  return system.spawn<lane_actor>(kind, std::move(setup));
}

}  // namespace troupe::actors
