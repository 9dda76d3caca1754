// The shell that prefill and decode share: plans in, jobs on the lane's thread, results out to shards and scheduler.
// Knows no tensor and no queue of requests.
#pragma once

#include <functional>
#include <memory>

#include <caf/fwd.hpp>

#include "actors/handles.hpp"
#include "actors/lane/job_queue.hpp"
#include "actors/lane/step_machine.hpp"

namespace troupe::actors {

struct engine_metrics;

/// What both lane actors of a model share.
struct lane_setup {
  std::shared_ptr<job_queue> queue;
  std::shared_ptr<step_machine> machine;  ///< used by the queue's jobs only
  std::function<clock::time_point()> now;
  std::shared_ptr<engine_metrics> metrics;
  std::shared_ptr<job_queue> waiting = {};  ///< where to wait for steps that a device computes; null: none do
};

/// Waits for wire_engine; ends at stop_actor. Plans posted before keep their turn.
lane_handle spawn_lane_actor(caf::actor_system& system, lane_kind kind, lane_setup setup);

}  // namespace troupe::actors
