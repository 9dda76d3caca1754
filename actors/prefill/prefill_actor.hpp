// Steps that hold prompt chunks only. On a lane with one queue they wait behind decode steps.
// Knows what every lane actor knows: plans, jobs, results.
#pragma once

#include "actors/lane/lane_actor.hpp"

namespace troupe::actors {

inline lane_handle spawn_prefill(caf::actor_system& system, lane_setup setup) {
  return spawn_lane_actor(system, lane_kind::prefill, std::move(setup));
}

}  // namespace troupe::actors
