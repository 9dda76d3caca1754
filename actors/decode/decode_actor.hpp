// Steps that hold decode rows, and prompt chunks mixed in where the planner's policy says so. They go first.
// Knows what every lane actor knows: plans, jobs, results.
#pragma once

#include "actors/lane/lane_actor.hpp"

namespace troupe::actors {

inline lane_handle spawn_decode(caf::actor_system& system, lane_setup setup) {
  return spawn_lane_actor(system, lane_kind::decode, std::move(setup));
}

}  // namespace troupe::actors
