// Every message between actors, grouped by receiver. One struct each, immutable, handled by const reference; the
// struct is the verb. Edge messages (those a front end causes) are plain values but for the local sink and request;
// messages inside one engine may share constant payloads.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <caf/allowed_unsafe_message_type.hpp>

#include <troupe/event.hpp>
#include <troupe/operator.hpp>
#include <troupe/request.hpp>

#include "actors/kv_store/block_grant.hpp"
#include "actors/step_plan.hpp"
#include "memory/host_tier.hpp"

namespace troupe::actors {

// --- to a stream shard: owner of generations, their logs and their subscribers ---
/// A client wants a generation. The shard opens it, subscribes `sink` and passes the request on to a tokenizer.
struct open_generation {
  generation_id id = 0;
  std::shared_ptr<const request> what;
  std::uint64_t subscription = 0;
  std::shared_ptr<event_sink> sink;
  std::uint32_t credit = 0;
  bool keep = false;  ///< lives on without subscribers until its time-to-live ends
  clock::time_point submitted;
  std::shared_ptr<const operator_chain> operators;  ///< may be null; each generation copies it
};
/// The scheduler took it: it waits in the queue with this many prompt tokens.
struct generation_admitted {
  generation_id id = 0;
  std::int32_t prompt_tokens = 0;
  std::int32_t max_tokens = 0;
};
/// Its first prefill step has begun, behind so many prompt tokens that others had computed.
struct prefill_started {
  generation_id id = 0;
  clock::time_point when;
  std::int32_t cached_tokens = 0;
};
/// It cannot go on; `why` goes to every subscriber.
struct generation_failed {
  generation_id id = 0;
  error why;
};
/// A lane finished a step. Sent once to each shard that has generations in it; the shard picks its own.
struct step_tokens {
  std::shared_ptr<const step_result> result;
};
struct open_subscription {
  generation_id id = 0;
  std::uint64_t subscription = 0;
  std::uint64_t offset = 0;
  std::shared_ptr<event_sink> sink;
  std::uint32_t credit = 0;
};
struct close_subscription {
  generation_id id = 0;
  std::uint64_t subscription = 0;
};
struct grant_credit {
  generation_id id = 0;
  std::uint64_t subscription = 0;
  std::uint32_t events = 0;
};
struct cancel_generation {
  generation_id id = 0;
  std::function<void(bool)> found;
};
/// Periodic: drop finished generations whose time-to-live is over.
struct sweep_generations {};

// --- to a tokenizer ---
/// Render the template where there is one, encode, check the length, and pass on to the scheduler as admit_sequence;
/// what fails goes back to the shard as generation_failed.
struct encode_prompt {
  generation_id id = 0;
  std::shared_ptr<const request> what;
  std::uint32_t shard = 0;  ///< index of the stream shard that owns it
};

// --- to the scheduler ---
struct admit_sequence {
  std::shared_ptr<const sequence_terms> terms;  ///< max_tokens already clamped to the context
  std::shared_ptr<const std::vector<std::int32_t>> prompt;
  std::uint32_t shard = 0;
};
/// High priority: the stream needs no more of it (stop string, cancel, nobody left). Slot and blocks are free within a
/// step.
struct end_sequence {
  generation_id id = 0;
};
/// Credit reached the decode step: skip / go on planning rows for it.
struct pause_sequence {
  generation_id id = 0;
};
struct resume_sequence {
  generation_id id = 0;
};
/// From a lane: a step is done. Also carries the tokens, which the scheduler keeps for preemption.
struct step_done {
  std::shared_ptr<const step_result> result;
};
/// From the kv_store: the answer to reserve_blocks, in its order.
struct blocks_granted {
  std::vector<block_grant> grants;
  std::int32_t free_blocks = 0;
};
/// From the kv_store: what it promised in such an answer.
struct blocks_arrived {
  std::vector<block_grant> grants;
};
/// Health: answered on the lane's thread after the steps before it, which proves scheduler, shell and lane alive; or at
/// once, with the reason why the engine is broken.
struct probe_engine {
  std::function<void(result<void>)> answer;
};
/// To itself, while steps are computed: has one of them hung?
struct check_steps {};
/// The engine is broken: every sequence fails with `why`, and so does what comes later.
struct fail_sequences {
  error why;
};
/// Admit nothing more; finish what runs, then call `drained`.
struct drain_scheduler {
  std::function<void()> drained;
};

// --- to the kv_store ---
/// All sequences of one step in one message, asked a step ahead.
struct reserve_blocks {
  std::vector<block_need> needs;
};
/// Steps are over: others may read what they wrote. Sent before a release of the same blocks.
struct offer_blocks {
  std::vector<computed_rows> rows;
};
struct release_blocks {
  std::vector<block_release> sequences;
};

/// From a thread that copies blocks to host memory and back: this order has ended, well or not.
struct blocks_copied {
  memory::copy_order order;
  bool well = false;
};

// --- to prefill and decode: each drives a lane ---
struct run_step {
  std::shared_ptr<const step_plan> plan;
};
/// Answer from the lane's thread.
struct probe_lane {
  std::function<void()> answer;
};

// --- to the supervisor ---
/// Stop every actor in order; `stopped` is called when all are gone.
struct stop_engine {
  std::function<void()> stopped;
};

// --- to every actor ---
struct engine_links;  // handles.hpp
/// The first message to every actor but the supervisor: whom it may talk to. Breaks the cycle of spawns.
struct wire_engine {
  std::shared_ptr<const engine_links> links;
};
/// Ordered stop: finish the message in hand, drop handles, quit.
struct stop_actor {};

}  // namespace troupe::actors

#define TROUPE_MESSAGE(type) CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::type)
TROUPE_MESSAGE(open_generation)
TROUPE_MESSAGE(generation_admitted)
TROUPE_MESSAGE(prefill_started)
TROUPE_MESSAGE(generation_failed)
TROUPE_MESSAGE(step_tokens)
TROUPE_MESSAGE(open_subscription)
TROUPE_MESSAGE(close_subscription)
TROUPE_MESSAGE(grant_credit)
TROUPE_MESSAGE(cancel_generation)
TROUPE_MESSAGE(sweep_generations)
TROUPE_MESSAGE(encode_prompt)
TROUPE_MESSAGE(admit_sequence)
TROUPE_MESSAGE(end_sequence)
TROUPE_MESSAGE(pause_sequence)
TROUPE_MESSAGE(resume_sequence)
TROUPE_MESSAGE(step_done)
TROUPE_MESSAGE(blocks_granted)
TROUPE_MESSAGE(blocks_arrived)
TROUPE_MESSAGE(probe_engine)
TROUPE_MESSAGE(fail_sequences)
TROUPE_MESSAGE(drain_scheduler)
TROUPE_MESSAGE(check_steps)
TROUPE_MESSAGE(reserve_blocks)
TROUPE_MESSAGE(offer_blocks)
TROUPE_MESSAGE(release_blocks)
TROUPE_MESSAGE(blocks_copied)
TROUPE_MESSAGE(run_step)
TROUPE_MESSAGE(probe_lane)
TROUPE_MESSAGE(stop_engine)
TROUPE_MESSAGE(wire_engine)
TROUPE_MESSAGE(stop_actor)
#undef TROUPE_MESSAGE
