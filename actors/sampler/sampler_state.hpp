// What sampling needs to remember of one sequence: the place in its random stream and, where penalties are on, which
// tokens it has seen. Knows no logits.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "actors/step_plan.hpp"
#include "kernels/sampling.hpp"

namespace troupe::actors {

/// One owner. A sequence without penalties pays for a counter only.
class sampler_state {
public:
  sampler_state() = default;
  /// `known`: prompt and, its last `generated`, tokens generated before.
  sampler_state(std::shared_ptr<const sequence_terms> terms, std::span<const std::int32_t> known,
                std::int32_t generated);

  /// A token was generated. Constant time.
  void add(std::int32_t token);
  std::int32_t generated() const noexcept { return generated_; }
  /// Does the next row depend on which tokens were added (penalties), and not on their number alone?
  bool counts_tokens() const noexcept { return penalties_; }
  /// How to sample the next token. Its spans live until the next add.
  kernels::sampling_row row() const;

private:
  void see(std::int32_t token, bool in_prompt);

  std::shared_ptr<const sequence_terms> terms_;
  std::int32_t generated_ = 0;
  bool penalties_ = false;
  std::vector<kernels::token_count> seen_;
  std::unordered_map<std::int32_t, std::size_t> places_;  // of tokens in seen_
};

}  // namespace troupe::actors
