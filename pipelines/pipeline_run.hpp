// Runs a pipeline's parts as actors, each where its stage was placed, until all have finished.
#pragma once

#include <troupe/pipeline_parts.hpp>
#include <troupe/result.hpp>

namespace caf {
class actor_system;
}

namespace troupe::pipelines {

/// Blocks. The first error is the answer: what a part threw; the others then end by cancel and close.
result<void> run_graph(caf::actor_system& system, pipeline_graph graph);

}  // namespace troupe::pipelines
