// What a sequence carries from one sampled token to the next: its counts and its place in the random sequence.
// Knows no logits; kernels sample.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "actors/step_plan.hpp"
#include "kernels/sampling.hpp"

namespace troupe::actors {

class sampler_state {
public:
  /// `tokens` are all known so far, the last `generated` of them its own. Counting costs only those who use penalties.
  sampler_state(std::shared_ptr<const sequence_terms> terms, std::span<const std::int32_t> tokens, std::int32_t generated);

  /// For the next token. Its spans stay valid until the next take().
  kernels::sampling_row next() const;
  void take(std::int32_t id);

  const sequence_terms& terms() const noexcept { return *terms_; }
  std::int32_t generated() const noexcept { return generated_; }

private:
  void count(std::int32_t id, bool in_prompt);

  std::shared_ptr<const sequence_terms> terms_;
  std::int32_t generated_;
  std::vector<kernels::token_count> seen_;
  std::unordered_map<std::int32_t, std::size_t> place_;  ///< of an id in seen_
};

}  // namespace troupe::actors
