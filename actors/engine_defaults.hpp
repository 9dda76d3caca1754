// What an engine settles on where its options leave it open, by its device and the memory that is there. Knows no
// actor.
#pragma once

#include <memory>
#include <string>

#include <troupe/result.hpp>

#include "actors/engine.hpp"
#include "actors/scheduler/planner_options.hpp"
#include "base/clock.hpp"

namespace troupe::kernels {
struct any_lane;
class lane;
}  // namespace troupe::kernels

namespace troupe::models {
struct loaded_model;
}

namespace troupe::actors {

/// With numbers of sequences and of a step's tokens.
engine_options with_bounds(engine_options options, const std::string& device);

/// Fills in the context and the blocks of the model's KV. `options` have bounds. Errors: out_of_memory (not a block
/// fits).
result<void> size_kv(const models::loaded_model& model, kernels::lane& lane, const engine_options& options,
                     engine_figures& figures);

/// A queue for prompts beside `lane`'s own; null: that one takes prompts as well. Errors: invalid_argument (asked for
/// where there is none); those of `made`.
result<std::unique_ptr<kernels::lane>> second_queue(kernels::lane& lane, const kernels::any_lane& made,
                                                    const engine_options& options);

planner_options planner_of(const engine_options& options, const engine_figures& figures, bool two_queues);

/// Before a step counts as hung; zero: never. On a CPU no step hangs, and one may well take minutes.
base::duration patience_of(const engine_figures& figures);

}  // namespace troupe::actors
