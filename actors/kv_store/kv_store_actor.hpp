// The shell of the KV store: reserve_blocks in, blocks_granted out; orders to copy blocks out to threads that do
// nothing else, blocks_copied back.
#pragma once

#include <cstdint>
#include <memory>

#include <caf/fwd.hpp>

#include "actors/handles.hpp"
#include "actors/kv_store/host_blocks.hpp"

namespace troupe::actors {

struct engine_metrics;

/// Waits for wire_engine; ends at stop_actor. `kept`: how many blocks may rest (kv_store.hpp).
kv_store_handle spawn_kv_store(caf::actor_system& system, std::int32_t blocks, std::int32_t kept,
                               std::shared_ptr<engine_metrics> metrics, host_blocks host = {});

}  // namespace troupe::actors
