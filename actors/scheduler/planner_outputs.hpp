// What a call of the planner makes the scheduler send. Plain values; knows no actor.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <troupe/result.hpp>

#include "actors/kv_store/block_grant.hpp"
#include "actors/lane/lane_kind.hpp"
#include "actors/step_plan.hpp"

namespace troupe::actors {

/// Effects of one call. What was computed is to be sent before releases, and these before needs; each list in order.
struct planner_outputs {
  struct routed_plan {
    lane_kind lane = lane_kind::decode;
    std::shared_ptr<const step_plan> plan;
  };
  struct refusal {
    generation_id id = 0;
    std::uint32_t shard = 0;
    error why;
  };
  struct notice {
    generation_id id = 0;
    std::uint32_t shard = 0;
    std::int32_t prompt_tokens = 0;
    std::int32_t max_tokens = 0;
    std::int32_t cached = 0;  ///< started: tokens that need no prefill
  };
  std::vector<notice> admitted;
  std::vector<notice> started;
  std::vector<refusal> failures;
  std::vector<computed_rows> computed;
  std::vector<block_release> releases;
  std::vector<block_need> needs;
  std::vector<routed_plan> plans;
  std::int32_t preemptions = 0;
  std::int64_t cached_rows = 0;  ///< that sequences which enter need not compute, also after a preemption
};

}  // namespace troupe::actors
