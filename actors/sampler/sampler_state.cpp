// Sparse counts of seen tokens.
#include "actors/sampler/sampler_state.hpp"

#include <utility>

namespace troupe::actors {

sampler_state::sampler_state(std::shared_ptr<const sequence_terms> terms, std::span<const std::int32_t> known,
                             std::int32_t generated)
    : terms_(std::move(terms)), generated_(generated) {
  const sampling& how = terms_->how;
  penalties_ = how.repetition_penalty != 1.0f || how.presence_penalty != 0.0f || how.frequency_penalty != 0.0f;
  if (!penalties_) return;
  const std::size_t prompt = known.size() - static_cast<std::size_t>(generated);
  for (std::size_t i = 0; i < known.size(); ++i) see(known[i], i < prompt);
}

void sampler_state::see(std::int32_t token, bool in_prompt) {
  const auto [at, fresh] = places_.try_emplace(token, seen_.size());
  if (fresh) seen_.push_back({token, 0, false});
  kernels::token_count& count = seen_[at->second];
  if (in_prompt) count.in_prompt = true;
  else ++count.in_output;
}

void sampler_state::add(std::int32_t token) {
  ++generated_;
  if (penalties_) see(token, false);
}

kernels::sampling_row sampler_state::row() const {
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
  row.seed = how.seed.value_or(terms_->generation);
  row.counter = static_cast<std::uint64_t>(generated_);
  row.top_logprobs = terms_->top_logprobs;
  return row;
}

}  // namespace troupe::actors
