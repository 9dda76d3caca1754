// The shell of one stream shard: messages in, calls on stream_shard, its outputs on as messages and events.
// Knows nothing of text, credit or operators.
#pragma once

#include <cstdint>
#include <memory>

#include <caf/fwd.hpp>

#include "actors/handles.hpp"
#include "actors/stream/stream_limits.hpp"

namespace troupe::models {
class tokenizer;
}

namespace troupe::actors {

struct stream_counters;
struct engine_metrics;

struct stream_setup {
  std::uint32_t index = 0;  ///< of this shard
  std::shared_ptr<const models::tokenizer> tokenizer;
  stream_limits limits;
  std::shared_ptr<stream_counters> counters;  ///< shared by the shards of a model; may be null
  std::shared_ptr<engine_metrics> metrics;    ///< counts messages; may be null
};

/// Waits for wire_engine before anything else; sweeps itself every few seconds; ends at stop_actor, when every
/// generation still open fails with shutting_down.
stream_handle spawn_stream(caf::actor_system& system, stream_setup setup);

}  // namespace troupe::actors
