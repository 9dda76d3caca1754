// Counts for the penalties, kept sparse.
#include "actors/sampler/sampler_state.hpp"

namespace troupe::actors {
namespace {

bool counts_prompt(const sampling& how) { return how.repetition_penalty != 1.0f; }
bool counts_output(const sampling& how) { return counts_prompt(how) || how.presence_penalty != 0.0f || how.frequency_penalty != 0.0f; }

}  // namespace

sampler_state::sampler_state(std::shared_ptr<const sequence_terms> terms, std::span<const std::int32_t> tokens, std::int32_t generated)
    : terms_(std::move(terms)), generated_(generated) {
  const std::size_t prompt = tokens.size() - static_cast<std::size_t>(generated);
  if (counts_prompt(terms_->how))
    for (const std::int32_t id : tokens.first(prompt)) count(id, true);
  if (counts_output(terms_->how))
    for (const std::int32_t id : tokens.subspan(prompt)) count(id, false);
}

kernels::sampling_row sampler_state::next() const {
  const sampling& how = terms_->how;
  kernels::sampling_row row;
  row.temperature = how.temperature;
  row.top_k = how.top_k;
  row.top_p = how.top_p;
  row.min_p = how.min_p;
  row.repetition_penalty = how.repetition_penalty;
  row.presence_penalty = how.presence_penalty;
  row.frequency_penalty = how.frequency_penalty;
  row.seen = seen_;
  row.bias = how.logit_bias;
  row.seed = how.seed.value_or(0);
  row.counter = static_cast<std::uint64_t>(generated_);
  row.top_logprobs = terms_->top_logprobs;
  return row;
}

void sampler_state::take(std::int32_t id) {
  ++generated_;
  if (counts_output(terms_->how)) count(id, false);
}

void sampler_state::count(std::int32_t id, bool in_prompt) {
  const auto [found, fresh] = place_.try_emplace(id, seen_.size());
  if (fresh) seen_.push_back({id, 0, false});
  kernels::token_count& entry = seen_[found->second];
  if (in_prompt)
    entry.in_prompt = true;
  else
    ++entry.in_output;
}

}  // namespace troupe::actors
