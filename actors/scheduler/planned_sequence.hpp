// One sequence as the planner sees it: what is known, what is planned, what it holds. Plain value with arithmetic.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "actors/lane/lane_kind.hpp"
#include "actors/step_plan.hpp"

namespace troupe::actors {

enum class sequence_stage : std::uint8_t {
  queued,
  running,
  yielding,  ///< preempted: gets no more rows; back to the queue when its steps in flight are done
  ended,     ///< gets no more rows; forgotten when its steps in flight are done
};

struct planned_sequence {
  std::shared_ptr<const sequence_terms> terms;
  std::shared_ptr<const std::vector<std::int32_t>> known;  ///< tokens at the join: prompt and what was generated before
  std::int32_t generated_before = 0;                       ///< how many of `known` were generated
  std::vector<std::uint64_t> beginnings;                   ///< of `known`, where prefixes are shared (awaited_prefixes)
  std::vector<std::int32_t> fresh;                         ///< sampled since the join, as far as reported
  std::uint32_t shard = 0;
  std::uint64_t arrival = 0;  ///< order of admission; the highest is the youngest

  sequence_stage stage = sequence_stage::queued;
  bool paused = false;
  bool started = false;   ///< its first prefill step was planned
  bool asked = false;     ///< blocks asked for, answer outstanding
  bool promised = false;  ///< asked, and the answer was that blocks come later
  bool refused = false;   ///< the last answer was no, and nothing was released since
  bool aside = false;     ///< what is left of its prompt is computed beside the decodes, not in their steps
  bool halted = false;    ///< the lane said that it ended, and computes no more rows of it
  bool spoiled = false;   ///< it failed on the lane

  std::int32_t slot = -1;
  std::uint64_t joined = 0;                 ///< the step in which the lane is told of it; 0: not yet
  std::int32_t cached = 0;                  ///< KV rows that others had computed before this residency
  std::int32_t rows = 0;                    ///< KV rows cached, or planned in this residency
  std::int32_t computed = 0;                ///< of them, by steps that are over
  std::int32_t offered = 0;                 ///< blocks that the kv_store knows to be computed
  std::int32_t samples = 0;                 ///< samples planned in this residency
  std::int32_t blocks = 0;                  ///< granted
  std::vector<std::int32_t> new_blocks;     ///< granted, not yet in a plan
  std::array<std::int32_t, 2> in_flight{};  ///< steps, by lane_kind

  std::int32_t known_rows() const { return static_cast<std::int32_t>(known->size()); }
  /// All rows it can ever use: the token sampled last is not fed.
  std::int32_t final_rows() const { return known_rows() + terms->max_tokens - generated_before - 1; }
  bool prefilling() const { return rows < known_rows(); }
  bool wants_decode() const { return !prefilling() && samples < terms->max_tokens - generated_before; }
  bool idle() const { return in_flight[0] + in_flight[1] == 0; }
};

constexpr std::int32_t blocks_for(std::int32_t rows, std::int32_t block_tokens) {
  return (rows + block_tokens - 1) / block_tokens;
}

}  // namespace troupe::actors
