// From a plan to a batch, from logits to tokens.
#include "actors/lane/step_runner.hpp"

#include <algorithm>

namespace troupe::actors {

result<step_runner> step_runner::create(std::shared_ptr<const models::loaded_model> model, kernels::lane& lane,
                                        const runner_options& options) {
  auto kv = lane.make_kv(model->shape().kv(), options.blocks);
  if (!kv) return kv.why();
  auto scratch = models::forward_scratch::create(lane, model->shape(), options.max_batch_tokens, options.max_sequences);
  if (!scratch) return scratch.why();
  return step_runner(std::move(model), lane, std::move(*scratch), std::move(*kv), options.max_sequences);
}

step_runner::step_runner(std::shared_ptr<const models::loaded_model> model, kernels::lane& lane, models::forward_scratch scratch,
                         std::unique_ptr<kernels::kv_arena> kv, std::int32_t slots)
    : model_(std::move(model)), lane_(&lane), scratch_(std::move(scratch)), kv_(std::move(kv)), slots_(static_cast<std::size_t>(slots)) {}

step_result step_runner::run(const step_plan& plan) {
  step_result done;
  done.step = plan.step;
  update_slots(plan);
  ids_.clear();
  sequences_.clear();
  sample_rows_.clear();
  sample_slots_.clear();
  for (const slot_work& work : plan.work) {
    auto& s = slots_[static_cast<std::size_t>(work.slot)];
    if (!s) continue;
    s->blocks.insert(s->blocks.end(), work.new_blocks.begin(), work.new_blocks.end());
    if (!s->ended) add_rows(work, *s, done);
  }
  // The block tables do not grow any more: only now may they be pointed to.
  std::size_t next = 0;
  for (const slot_work& work : plan.work) {
    const auto& s = slots_[static_cast<std::size_t>(work.slot)];
    if (s && !s->ended) sequences_[next++].blocks = s->blocks;
  }
  if (!ids_.empty()) sample(done);
  return done;
}

void step_runner::update_slots(const step_plan& plan) {
  for (const slot_leave& leave : plan.leaves) {
    auto& s = slots_[static_cast<std::size_t>(leave.slot)];
    if (s && s->joined == leave.joined) s.reset();
  }
  for (const slot_join& join : plan.joins)
    slots_[static_cast<std::size_t>(join.slot)] =
        slot{sampler_state(join.terms, *join.tokens, join.generated), join.tokens, plan.step, -1, {}, false};
}

void step_runner::add_rows(const slot_work& work, slot& s, step_result& done) {
  const auto first_row = static_cast<std::int32_t>(ids_.size());
  const auto known = static_cast<std::int32_t>(s.known->size());
  for (std::int32_t position = work.position; position < work.position + work.rows; ++position)
    ids_.push_back(position < known ? (*s.known)[static_cast<std::size_t>(position)] : s.last);
  sequences_.push_back({first_row, work.rows, work.position, {}});
  (work.position < known ? done.prefill_rows : done.decode_rows) += work.rows;
  if (!work.sample) return;
  sample_rows_.push_back(first_row + work.rows - 1);
  sample_slots_.push_back(work.slot);
}

void step_runner::sample(step_result& done) {
  const models::step_batch batch{ids_, sequences_, sample_rows_};
  const auto logits = model_->network->forward(*lane_, {0, model_->shape().layers}, batch, scratch_, *kv_);
  if (sample_rows_.empty()) return;
  sampling_.clear();
  for (const std::int32_t index : sample_slots_) sampling_.push_back(slots_[static_cast<std::size_t>(index)]->sampler.next());
  picks_.assign(sampling_.size(), {});
  lane_->sample(logits, sampling_, picks_);
  for (std::size_t i = 0; i < picks_.size(); ++i) done.tokens.push_back(settle(sample_slots_[i], picks_[i]));
}

step_token step_runner::settle(std::int32_t index, kernels::sampled& pick) {
  slot& s = *slots_[static_cast<std::size_t>(index)];
  const sequence_terms& terms = s.sampler.terms();
  step_token token;
  token.generation = terms.generation;
  token.slot = index;
  if (pick.id < 0) {
    token.end = sequence_end::failed;
    token.why = {errc::numeric, "the model's logits are not numbers", ""};
  } else {
    s.sampler.take(pick.id);
    s.last = pick.id;
    token.id = pick.id;
    token.logprob = pick.logprob;
    token.top = std::move(pick.top);
    if (std::find(terms.end_ids.begin(), terms.end_ids.end(), pick.id) != terms.end_ids.end())
      token.end = sequence_end::eos;
    else if (s.sampler.generated() >= terms.max_tokens)
      token.end = sequence_end::length;
  }
  s.ended = token.end != sequence_end::none;
  return token;
}

}  // namespace troupe::actors
