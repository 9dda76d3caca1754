// The shell of the step planner: messages in, its outputs out. The clock is injected.
#pragma once

#include <functional>
#include <memory>

#include <caf/fwd.hpp>

#include "actors/handles.hpp"
#include "actors/scheduler/step_planner.hpp"

namespace troupe::actors {

struct engine_metrics;

struct scheduler_setup {
  planner_options planner;
  std::function<clock::time_point()> now;
  std::shared_ptr<engine_metrics> metrics;
  clock::duration patience = {};                   ///< of step_watch; zero: no watchdog
  std::function<void(const error&)> on_lost = {};  ///< once: the engine is broken for good
};

/// Waits for wire_engine; ends at stop_actor.
scheduler_handle spawn_scheduler(caf::actor_system& system, scheduler_setup setup);

}  // namespace troupe::actors
