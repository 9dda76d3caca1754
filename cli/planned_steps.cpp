// Outputs of the planner become calls; ends of steps come from a thread that waits for them.
#include "cli/planned_steps.hpp"

#include "cli/thread_time.hpp"

namespace troupe::cli {

result<std::unique_ptr<planned_steps>> planned_steps::create(std::shared_ptr<const models::loaded_model> model,
                                                             kernels::lane& lane, const options& o, listener on_token) {
  actors::planner_options planner;
  planner.max_sequences = o.max_sequences;
  planner.max_batch_tokens = std::max(o.max_batch_tokens, o.max_sequences + planner.block_tokens);
  planner.total_blocks = o.kv_blocks;
  planner.most_growth = o.most_growth;
  planner.share_prefixes = o.share_prefixes;
  planner.policy = !o.prompts          ? actors::batch_policy::mix
                   : o.most_growth > 0 ? actors::batch_policy::choose
                                       : actors::batch_policy::split;
  planner.queue_sequences = 1 << 20;
  planner.queue_tokens = std::int64_t{1} << 40;
  auto runner = actors::step_runner::create(std::move(model), lane,
                                            {planner.max_sequences, planner.max_batch_tokens, o.kv_blocks, o.prompts});
  if (!runner) return runner.why();
  std::unique_ptr<kernels::kv_copies> copies;
  if (o.host_bytes > 0) {
    auto with = o.copies((*runner)->kv(), o.host_bytes);
    if (!with) return with.why();
    copies = *std::move(with);
  }
  std::unique_ptr<planned_steps> made(
      new planned_steps(planner, *std::move(runner), std::move(copies), std::move(on_token)));
  if (o.warm_up)
    if (auto r = made->runner_->warm_up(o.warm_up); !r) return r.why();
  made->counted_us_ = thread_microseconds();
  return made;
}

planned_steps::planned_steps(const actors::planner_options& planner, std::unique_ptr<actors::step_runner> runner,
                             std::unique_ptr<kernels::kv_copies> copies, listener on_token)
    : runner_(std::move(runner)), copies_(std::move(copies)), planner_(planner),
      store_(planner.total_blocks, planner.block_tokens, planner.total_blocks, copies_ ? copies_->places : 0),
      on_token_(std::move(on_token)), two_queues_(planner.policy != actors::batch_policy::mix) {}

actors::generation_id planned_steps::submit(std::vector<std::int32_t> prompt, std::int32_t max_tokens,
                                            std::int32_t top_logprobs) {
  auto terms = std::make_shared<actors::sequence_terms>();
  terms->generation = next_id_++;
  terms->how.temperature = 0.0f;
  terms->how.seed = 1;
  terms->max_tokens = max_tokens;
  terms->top_logprobs = top_logprobs;
  actors::planner_outputs out;
  planner_.admit(terms, std::make_shared<const std::vector<std::int32_t>>(std::move(prompt)), 0, out);
  carry_out(std::move(out));
  return terms->generation;
}

void planned_steps::end(actors::generation_id id) {
  actors::planner_outputs out;
  planner_.end(id, out);
  carry_out(std::move(out));
}

void planned_steps::pause(actors::generation_id id, bool on) {
  actors::planner_outputs out;
  planner_.pause(id, on, out);
  carry_out(std::move(out));
}

void planned_steps::carry_out(actors::planner_outputs out) {
  for (;;) {
    if (!out.failures.empty() && outcome_) outcome_ = out.failures.front().why;
    figures_.preemptions += out.preemptions;
    for (const actors::computed_rows& one : out.computed) store_.offer(one);
    for (const actors::block_release& one : out.releases) store_.release(one);
    for (auto& routed : out.plans) begin(std::move(routed));
    const auto grants = out.needs.empty() ? std::vector<actors::block_grant>() : store_.reserve(out.needs);
    for (memory::copy_order& order : store_.take_orders()) copy(std::move(order));
    const bool answered = !out.needs.empty();
    const auto late = answered ? std::vector<actors::block_grant>() : store_.take_late();
    out = {};
    if (answered) planner_.granted(grants, store_.free(), out);
    else if (!late.empty()) planner_.arrived(late, out);
    else return;
  }
}

void planned_steps::copy(memory::copy_order order) {
  ++copying_;
  copiers_[static_cast<std::size_t>(order.way)].post(actors::lane_kind::prefill,
                                                     [this, order = std::move(order)]() mutable {
                                                       const bool well = copies_->make(order.way, order.copies).ok();
                                                       {
                                                         const std::lock_guard lock(mutex_);
                                                         copied_.push_back({std::move(order), well});
                                                       }
                                                       over_.notify_one();
                                                     });
}

void planned_steps::hear(ended_copy copied) {
  --copying_;
  const auto blocks = static_cast<std::int64_t>(copied.order.copies.size());
  (copied.order.way == memory::copy_way::out ? figures_.blocks_out : figures_.blocks_in) += copied.well ? blocks : 0;
  store_.copied(copied.order, copied.well);
  carry_out({});
}

void planned_steps::begin(actors::planner_outputs::routed_plan routed) {
  const auto now = clock::now();
  auto begun = runner_->begin(*routed.plan);
  const std::size_t queue = queue_of(routed.lane);
  flights_[queue].push_back({routed.lane, std::move(routed.plan), now, std::move(begun.result)});
  if (flights_[queue].back().result) return;
  waiting_[queue].post(actors::lane_kind::decode, [this, queue, kind = routed.lane, ticket = begun.ticket] {
    runner_->wait(kind, ticket);
    {
      const std::lock_guard lock(mutex_);
      ++steps_over_[queue];
    }
    over_.notify_one();
  });
}

result<void> planned_steps::advance(clock::time_point until) {
  if (!outcome_) return outcome_;
  if (flights_[0].empty() && flights_[1].empty() && copying_ == 0 && until == clock::time_point::max()) {
    if (!planner_.empty()) return error{errc::internal, "the planner stands still: " + planner_.draw(), {}};
    return {};
  }
  std::size_t queue = 1;
  std::optional<ended_copy> copied;
  {
    std::unique_lock lock(mutex_);
    const auto any = [this] { return over(1) || over(0) || !copied_.empty(); };
    if (until == clock::time_point::max()) over_.wait(lock, any);
    else if (!over_.wait_until(lock, until, any)) return {};
    queue = over(1) ? 1 : 0;
    if (!over(queue)) {
      copied = std::move(copied_.front());
      copied_.pop_front();
    } else if (!flights_[queue].front().result) {
      --steps_over_[queue];
    }
  }
  if (copied) {
    hear(*std::move(copied));
    return outcome_;
  }
  flight first = std::move(flights_[queue].front());
  flights_[queue].pop_front();
  take(first.result ? *std::move(first.result) : runner_->finish(first.kind), first.begun);
  return outcome_;
}

void planned_steps::take(actors::step_result result, clock::time_point begun) {
  const auto now = clock::now();
  const double ms = std::chrono::duration<double, std::milli>(now - std::max(begun, last_end_)).count();
  last_end_ = now;
  ++figures_.steps;
  figures_.rows += result.prefill_rows + result.decode_rows;
  if (result.prefill_rows == 0) {
    figures_.decode_ms += ms;
  } else if (result.decode_rows > 0) {
    ++figures_.mixed;
    figures_.mixed_ms += ms;
  } else {
    ++figures_.prefills;
    figures_.prefill_ms += ms;
  }
  result.started = begun;
  result.ended = now;
  actors::planner_outputs out;
  planner_.done(result, out);
  carry_out(std::move(out));  // the next step first: the device should not wait for the listener
  for (const actors::step_token& token : result.tokens) {
    if (token.end == actors::sequence_end::failed && outcome_) outcome_ = token.why;
    on_token_(token, now);
  }
}

result<void> planned_steps::finish() {
  while (!planner_.empty())
    if (auto r = advance(); !r) return r;
  return {};
}

planned_steps::figures planned_steps::take_figures() {
  const double now = thread_microseconds();
  figures_.host_us = now - counted_us_;
  counted_us_ = now;
  return std::exchange(figures_, {});
}

}  // namespace troupe::cli
