// A planner's sizes in one line; what a test is about it sets itself.
#pragma once

#include "actors/scheduler/step_planner.hpp"

namespace troupe::actors {

inline planner_options planner_for(std::int32_t sequences, std::int32_t batch_tokens, std::int32_t blocks,
                                   batch_policy policy = batch_policy::mix) {
  planner_options options;
  options.max_sequences = sequences;
  options.max_batch_tokens = batch_tokens;
  options.total_blocks = blocks;
  options.policy = policy;
  return options;
}

}  // namespace troupe::actors
