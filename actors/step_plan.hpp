// What a lane is told to compute in one step, and what came of it. Plain values, CAF-free: the scheduler's core
// writes plans, the lane's core runs them, tests compare both.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <troupe/event.hpp>
#include <troupe/request.hpp>

#include "actors/lane/lane_kind.hpp"
#include "base/clock.hpp"

namespace troupe::actors {

using base::clock;
using troupe::generation_id;

/// Everything that a lane must know of a sequence to sample it. Constant while the sequence lives.
struct sequence_terms {
  generation_id generation = 0;
  sampling how;                       ///< seed set
  std::vector<std::int32_t> end_ids;  ///< sampling one of these ends the sequence; empty with ignore_eos
  std::int32_t max_tokens = 0;        ///< tokens to generate in all
  std::int32_t top_logprobs = -1;
};

/// A sequence enters a slot. `tokens` are all known so far: the prompt, and after a preemption also what was
/// generated (the last `generated` of them), so that penalties and the random counter go on where they were.
struct slot_join {
  std::int32_t slot = 0;
  std::shared_ptr<const sequence_terms> terms;
  std::shared_ptr<const std::vector<std::int32_t>> tokens;
  std::int32_t generated = 0;
  /// K and V of so many of them are in the first blocks of its first work, written by finished steps.
  std::int32_t cached = 0;
};

/// Rows of one sequence in this step. Prefill: tokens [position, position + rows) of the slot's known tokens.
/// Decode: rows == 1 and the token is the one sampled last, which the lane holds; the planner may not know it yet.
struct slot_work {
  std::int32_t slot = 0;
  std::int32_t position = 0;
  std::int32_t rows = 1;
  bool sample = false;                   ///< sample after the last row
  std::vector<std::int32_t> new_blocks;  ///< appended to the slot's block table before the step
};

/// A sequence will get no more work and its slot may forget it. Names the join that it ends, so
/// that a leave which a later join of the same slot has overtaken (on the other lane) does no harm.
struct slot_leave {
  std::int32_t slot = 0;
  std::uint64_t joined = 0;  ///< the step that held the join
};

/// One step. Slots leave, then join (a join replaces what the slot held), then the work runs as one batch. A slot that
/// ended in an earlier step (its end came after this plan was made) is skipped, silently.
struct step_plan {
  std::uint64_t step = 0;
  lane_kind lane = lane_kind::decode;  ///< whose it is; a lane with one queue computes both kinds in order
  bool follows = false;  ///< made while a step was computing or because one ended: the lane should not idle before it
  std::vector<slot_leave> leaves;
  std::vector<slot_join> joins;
  std::vector<slot_work> work;
};

enum class sequence_end : std::uint8_t { none, eos, length, failed };

struct step_token {
  generation_id generation = 0;
  std::int32_t slot = 0;
  std::int32_t id = -1;  ///< with eos: the end token, not part of the text
  sequence_end end = sequence_end::none;
  float logprob = 0.0f;  ///< where log-probabilities are wanted
  std::vector<std::pair<std::int32_t, float>> top;
  error why;  ///< with failed
};

struct step_result {
  std::uint64_t step = 0;
  lane_kind lane = lane_kind::decode;  ///< the plan's
  std::vector<step_token> tokens;
  clock::time_point started;
  clock::time_point ended;
  std::int32_t prefill_rows = 0;
  std::int32_t decode_rows = 0;
  std::optional<error> lane_lost;  ///< the lane's device is gone: no later step will succeed
};

}  // namespace troupe::actors
