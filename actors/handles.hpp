// One handle type per room: the list of messages it takes. Signatures are CAF 0.17's; this file is what a move to
// CAF 1.x rewrites.
#pragma once

#include <vector>

#include <caf/typed_actor.hpp>

#include "actors/messages.hpp"

namespace troupe::actors {

using stream_handle =
    caf::typed_actor<caf::reacts_to<open_generation>, caf::reacts_to<generation_admitted>,
                     caf::reacts_to<prefill_started>, caf::reacts_to<generation_failed>, caf::reacts_to<step_tokens>,
                     caf::reacts_to<open_subscription>, caf::reacts_to<close_subscription>,
                     caf::reacts_to<grant_credit>, caf::reacts_to<cancel_generation>, caf::reacts_to<sweep_generations>,
                     caf::reacts_to<wire_engine>, caf::reacts_to<stop_actor>>;

using tokenizer_handle =
    caf::typed_actor<caf::reacts_to<encode_prompt>, caf::reacts_to<wire_engine>, caf::reacts_to<stop_actor>>;

using scheduler_handle =
    caf::typed_actor<caf::reacts_to<admit_sequence>, caf::reacts_to<end_sequence>, caf::reacts_to<pause_sequence>,
                     caf::reacts_to<resume_sequence>, caf::reacts_to<step_done>, caf::reacts_to<blocks_granted>,
                     caf::reacts_to<blocks_arrived>, caf::reacts_to<probe_engine>, caf::reacts_to<check_steps>,
                     caf::reacts_to<fail_sequences>, caf::reacts_to<drain_scheduler>, caf::reacts_to<wire_engine>,
                     caf::reacts_to<stop_actor>>;

using kv_store_handle =
    caf::typed_actor<caf::reacts_to<reserve_blocks>, caf::reacts_to<offer_blocks>, caf::reacts_to<release_blocks>,
                     caf::reacts_to<blocks_copied>, caf::reacts_to<wire_engine>, caf::reacts_to<stop_actor>>;

/// Both prefill and decode.
using lane_handle = caf::typed_actor<caf::reacts_to<run_step>, caf::reacts_to<probe_lane>, caf::reacts_to<wire_engine>,
                                     caf::reacts_to<stop_actor>>;

using supervisor_handle = caf::typed_actor<caf::reacts_to<wire_engine>, caf::reacts_to<stop_engine>>;

/// All actors of one model. Each keeps it from wire_engine until stop_actor, which lets go of the cycle of handles.
struct engine_links {
  std::vector<stream_handle> streams;  ///< a generation's shard is id % size
  std::vector<tokenizer_handle> tokenizers;
  scheduler_handle scheduler;
  kv_store_handle kv_store;
  lane_handle prefill;
  lane_handle decode;
};

}  // namespace troupe::actors
