// A plan becomes a batch; a batch becomes tokens.
#include "actors/lane/step_runner.hpp"

#include <algorithm>
#include <utility>

namespace troupe::actors {

result<std::unique_ptr<step_runner>> step_runner::create(std::shared_ptr<const models::loaded_model> model,
                                                         kernels::lane& lane, runner_options options) {
  auto kv = lane.make_kv(model->shape().kv(), options.kv_blocks);
  if (!kv) return std::move(kv).why();
  std::unique_ptr<step_runner> made(new step_runner(std::move(model), *std::move(kv), options));
  if (auto r = made->add_queue(lane, options); !r) return r.why();
  if (options.prompts)
    if (auto r = made->add_queue(*options.prompts, options); !r) return r.why();
  return made;
}

result<void> step_runner::add_queue(kernels::lane& lane, const runner_options& options) {
  const models::model_shape& shape = model_->shape();
  const kernels::step_limits limits{options.max_batch_tokens, options.max_sequences, options.max_sequences,
                                    std::min(options.kv_blocks * kernels::kv_shape::block_tokens, shape.context),
                                    options.max_sequences};
  auto scratch = models::forward_scratch::create(lane, shape, limits.rows, limits.samples);
  if (!scratch) return std::move(scratch).why();
  auto steps = lane.make_steps(limits);
  if (!steps) return std::move(steps).why();
  queues_.push_back({&lane, *std::move(scratch), *std::move(steps), {}, {}});
  return {};
}

step_runner::step_runner(std::shared_ptr<const models::loaded_model> model, std::unique_ptr<kernels::kv_arena> kv,
                         runner_options options)
    : model_(std::move(model)), kv_(std::move(kv)), slots_(static_cast<std::size_t>(options.max_sequences)) {
  const auto rows = static_cast<std::size_t>(options.max_batch_tokens);
  ids_.reserve(rows);
  sequences_.reserve(slots_.size());
  sample_rows_.reserve(slots_.size());
  sample_slots_.reserve(slots_.size());
  sampling_.reserve(slots_.size());
}

step_runner::~step_runner() {
  for (queue& on : queues_)
    for (std::size_t left = on.pending.size(); left > 0; --left) static_cast<void>(on.lane->end_step());
}

step_runner::slot* step_runner::slot_at(std::int32_t index) {
  return index >= 0 && static_cast<std::size_t>(index) < slots_.size() ? &slots_[static_cast<std::size_t>(index)]
                                                                       : nullptr;
}

void step_runner::change_slots(const step_plan& plan) {
  for (const slot_leave& leave : plan.leaves)
    if (slot* one = slot_at(leave.slot); one && one->joined == leave.joined) *one = {};
  for (const slot_join& join : plan.joins) {
    slot* one = slot_at(join.slot);
    if (!one) continue;
    *one = {};
    one->terms = join.terms;
    one->known = join.tokens;
    one->joined = plan.step;
    one->rows = join.cached;
    one->sampler = sampler_state(join.terms, *join.tokens, join.generated);
  }
}

begun_step step_runner::begin(const step_plan& plan) {
  queue& on = queue_of(plan.lane);
  if (needs_unread(plan))
    while (!on.pending.empty()) settle_oldest(on);
  pending_step step;
  step.result.step = plan.step;
  change_slots(plan);
  gather(plan, on.scratch, step);
  if (sequences_.empty()) return {std::move(step.result), 0};
  const auto begun = compute(on, step);
  if (!begun) {
    fail_rows(step, begun.why());
    return {std::move(step.result), 0};
  }
  on.pending.push_back(std::move(step));  // the picks' memory stays where it is
  if (on.lane->steps_in_flight() == 1) return {finish(plan.lane), *begun};
  return {std::nullopt, *begun};
}

step_result step_runner::finish(lane_kind kind) {
  queue& on = queue_of(kind);
  if (on.settled.empty() && !on.pending.empty()) settle_oldest(on);
  if (on.settled.empty()) return {};
  step_result result = std::move(on.settled.front());
  on.settled.pop_front();
  return result;
}

step_result step_runner::run(const step_plan& plan) {
  auto begun = begin(plan);
  return begun.result ? *std::move(begun.result) : finish(plan.lane);
}

void step_runner::settle_oldest(queue& on) {
  pending_step step = std::move(on.pending.front());
  on.pending.pop_front();
  if (const auto ended = on.lane->end_step(); !ended) fail_rows(step, ended.why());
  else take_picks(step);
  on.settled.push_back(std::move(step.result));
}

void step_runner::take_picks(pending_step& step) {
  std::size_t next = 0;
  for (const pending_step::row& row : step.work) {
    if (!row.sample) continue;
    kernels::sampled& pick = step.picks[next++];
    slot& one = slots_[static_cast<std::size_t>(row.slot)];
    if (one.joined != row.joined || !one.terms) continue;
    --one.unread;
    if (!one.ended)
      apply(row.slot, pick, step.result);  // else it ended in the step before, which the plan did not know
  }
}

/// The step was not computed.
void step_runner::fail_rows(pending_step& step, const error& why) {
  if (why.code != errc::out_of_memory) step.result.lane_lost = why;
  for (const pending_step::row& row : step.work) {
    slot& one = slots_[static_cast<std::size_t>(row.slot)];
    if (one.joined != row.joined || !one.terms) continue;
    one.unread -= row.sample ? 1 : 0;
    if (!one.ended) fail_slot(row.slot, why, step.result);
  }
}

bool step_runner::needs_unread(const step_plan& plan) {
  return std::any_of(plan.work.begin(), plan.work.end(), [this](const slot_work& work) {
    const slot* one = slot_at(work.slot);
    return one && one->terms && one->unread > 0 && work.sample && one->sampler.counts_tokens();
  });
}

void step_runner::gather(const step_plan& plan, const models::forward_scratch& room, pending_step& step) {
  ids_.clear();
  sequences_.clear();
  sample_rows_.clear();
  sample_slots_.clear();
  sampling_.clear();
  for (const slot_work& work : plan.work) {
    slot* one = slot_at(work.slot);
    if (!one || !one->terms || one->ended) continue;  // ended after the plan was made
    one->blocks.insert(one->blocks.end(), work.new_blocks.begin(), work.new_blocks.end());
    if (const char* fault = fault_of(work, *one, room)) {
      fail_slot(work.slot, {errc::internal, fault, {}}, step.result);
      continue;
    }
    const bool decode = one->rows >= static_cast<std::int32_t>(one->known->size());
    (decode ? step.result.decode_rows : step.result.prefill_rows) += work.rows;
    add_rows(work, *one, step);
  }
}

/// What the planner must never ask for; caught here so that it costs one sequence and not the process.
const char* step_runner::fault_of(const slot_work& work, const slot& one, const models::forward_scratch& room) const {
  const auto known = static_cast<std::int32_t>(one.known->size());
  const bool decode = work.position >= known;
  const std::int64_t covered = static_cast<std::int64_t>(one.blocks.size()) * kernels::kv_shape::block_tokens;
  if (work.position != one.rows) return "a step was planned out of order";
  if (work.rows < 1 ||
      (decode ? work.rows != 1 || (one.last < 0 && one.unread == 0) : work.rows > known - work.position))
    return "a step was planned for tokens that are not known";
  if (work.position + work.rows > covered) return "a step was planned without KV blocks";
  if (static_cast<std::int64_t>(ids_.size()) + work.rows > room.max_rows()) return "a step was planned too large";
  if (static_cast<std::int32_t>(sample_rows_.size()) >= room.max_sample_rows())
    return "a step was planned with too many samples";
  return nullptr;
}

void step_runner::add_rows(const slot_work& work, slot& one, pending_step& step) {
  sequences_.push_back({static_cast<std::int32_t>(ids_.size()), work.rows, work.position, one.blocks});
  if (work.position >= static_cast<std::int32_t>(one.known->size()))
    ids_.push_back(one.unread > 0 ? -1 - work.slot : one.last);
  else ids_.insert(ids_.end(), one.known->begin() + work.position, one.known->begin() + work.position + work.rows);
  one.rows += work.rows;
  step.work.push_back({work.slot, one.joined, work.sample});
  if (!work.sample) return;
  sample_rows_.push_back(static_cast<std::int32_t>(ids_.size()) - 1);
  sample_slots_.push_back(work.slot);
  sampling_.push_back(one.sampler.row());
  sampling_.back().counter += static_cast<std::uint64_t>(one.unread);
  ++one.unread;
}

/// Of the layers those before `skipped_to` are left out, but for the first.
void step_runner::call_ops(queue& on, const kernels::step_batch& batch, std::int32_t skipped_to) {
  const std::int32_t layers = model_->shape().layers;
  if (skipped_to > 0) model_->network->forward(*on.lane, {0, 1}, batch, on.scratch, *kv_);
  const auto logits = model_->network->forward(*on.lane, {skipped_to, layers}, batch, on.scratch, *kv_);
  if (!batch.sampling.empty()) on.lane->sample(logits, batch.sampling, batch.picks);
}

result<void> step_runner::warm_up(const kernels::lane_warming& how) {
  for (queue& on : queues_) {
    const auto whole = [this, &on](const kernels::step_batch& b) { call_ops(on, b, 0); };
    const auto ends = [this, &on](const kernels::step_batch& b) { call_ops(on, b, model_->shape().layers - 1); };
    if (auto r = how(*on.lane, on.steps.get(), whole, ends, kv_->blocks); !r) return r;
  }
  return {};
}

result<kernels::step_ticket> step_runner::compute(queue& on, pending_step& step) {
  step.picks.resize(sample_rows_.size());
  const models::step_batch batch{ids_, sequences_, sample_rows_, sampling_, sample_slots_, step.picks};
  return on.lane->begin_step(on.steps.get(), batch, [this, &on](const models::step_batch& b) { call_ops(on, b, 0); });
}

void step_runner::apply(std::int32_t index, kernels::sampled& pick, step_result& result) {
  slot& one = slots_[static_cast<std::size_t>(index)];
  if (pick.id < 0)
    return fail_slot(index, {errc::numeric, "The model's output for this request is not a number.", {}}, result);
  one.sampler.add(pick.id);
  one.last = pick.id;
  step_token token;
  token.generation = one.terms->generation;
  token.slot = index;
  token.id = pick.id;
  token.logprob = pick.logprob;
  token.top = std::move(pick.top);
  const auto& ends = one.terms->end_ids;
  if (std::find(ends.begin(), ends.end(), pick.id) != ends.end()) token.end = sequence_end::eos;
  else if (one.sampler.generated() >= one.terms->max_tokens) token.end = sequence_end::length;
  one.ended = token.end != sequence_end::none;
  result.tokens.push_back(std::move(token));
}

void step_runner::fail_slot(std::int32_t index, const error& why, step_result& result) {
  slot& one = slots_[static_cast<std::size_t>(index)];
  one.ended = true;
  result.tokens.push_back({one.terms->generation, index, -1, sequence_end::failed, 0.0f, {}, why});
}

step_result step_runner::fail(const step_plan& plan, const error& why) {
  step_result result;
  result.step = plan.step;
  for (const slot_work& work : plan.work)
    if (slot* one = slot_at(work.slot); one && one->terms && !one->ended) fail_slot(work.slot, why, result);
  return result;
}

}  // namespace troupe::actors
