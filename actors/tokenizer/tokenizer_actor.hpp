// The shell of one tokenizer of the pool: encode_prompt in, admit_sequence or generation_failed out.
// Knows nothing of templates or ids; prompt_encoder does.
#pragma once

#include <memory>

#include <caf/fwd.hpp>

#include "actors/handles.hpp"

namespace troupe::actors {

class prompt_encoder;
struct engine_metrics;

/// Waits for wire_engine before anything else; ends at stop_actor. `metrics` counts messages and may be null.
tokenizer_handle spawn_tokenizer(caf::actor_system& system, std::shared_ptr<const prompt_encoder> encoder,
                                 std::shared_ptr<engine_metrics> metrics = nullptr);

}  // namespace troupe::actors
