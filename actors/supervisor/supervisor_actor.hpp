// The shell of the lineup: monitors every actor of an engine, fails everything visibly when one dies, stops all in
// order. Knows no request.
#pragma once

#include <memory>

#include <caf/fwd.hpp>

#include "actors/handles.hpp"

namespace troupe::actors {

struct engine_metrics;

/// Monitors from wire_engine on; ends itself after stop_engine, when the last actor is gone.
supervisor_handle spawn_supervisor(caf::actor_system& system, std::shared_ptr<engine_metrics> metrics);

}  // namespace troupe::actors
