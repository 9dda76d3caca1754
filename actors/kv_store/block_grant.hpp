// What the scheduler asks of the kv_store, what it gets, and what it tells. Plain values, CAF-free.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "actors/step_plan.hpp"

namespace troupe::actors {

struct block_need {
  generation_id id = 0;
  std::int32_t blocks = 0;  ///< more than it has; at its first need with those that it may share
  std::int32_t spare = 0;   ///< blocks that must be left when it is served
  /// At its first need, what the sequence will compute K and V of: whoever computed the beginning lends its blocks.
  /// Null: none.
  std::shared_ptr<const std::vector<std::int32_t>> tokens = {};
};

/// All that was asked for, or nothing: an empty list is a refusal for now, or, with `later`, the promise of another
/// grant: blocks are on their way out to host memory, or what they shall hold comes back from there.
struct block_grant {
  generation_id id = 0;
  std::vector<std::int32_t> blocks;
  std::int32_t cached = 0;  ///< tokens whose K and V are in the first of them already; a multiple of the block's
  bool later = false;
};

/// K and V of the first `rows` of these tokens are in the sequence's blocks, and the steps that wrote them are over.
struct computed_rows {
  generation_id id = 0;
  std::shared_ptr<const std::vector<std::int32_t>> tokens = {};  ///< null: nothing of it is to be shared
  std::int32_t rows = 0;
};

/// The sequence's blocks are given back.
struct block_release {
  computed_rows last;
  bool spoiled = false;  ///< it failed: nobody new may read what it wrote or read
};

}  // namespace troupe::actors
