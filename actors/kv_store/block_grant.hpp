// What the scheduler asks of the kv_store and what it gets. Plain values, CAF-free.
#pragma once

#include <cstdint>
#include <vector>

#include "actors/step_plan.hpp"

namespace troupe::actors {

struct block_need {
  generation_id id = 0;
  std::int32_t blocks = 0;
};

/// All that was asked for, or nothing: an empty list is a refusal for now.
struct block_grant {
  generation_id id = 0;
  std::vector<std::int32_t> blocks;
};

}  // namespace troupe::actors
