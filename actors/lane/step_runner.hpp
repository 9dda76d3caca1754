// Runs plans on a lane: holds the slots, makes the batch, samples, applies ends. Knows no actor, no queue and no clock.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include <troupe/result.hpp>

#include "actors/sampler/sampler_state.hpp"
#include "actors/step_plan.hpp"
#include "kernels/lane.hpp"
#include "models/model.hpp"

namespace troupe::actors {

struct runner_options {
  std::int32_t max_sequences = 64;
  std::int32_t max_batch_tokens = 512;
  std::int32_t blocks = 0;  ///< of the KV arena
};

/// Used by one thread at a time. The lane outlives it.
class step_runner {
public:
  static result<step_runner> create(std::shared_ptr<const models::loaded_model> model, kernels::lane& lane, const runner_options& options);

  /// One step; started and ended are left to the caller, who has a clock. A sequence whose logits are no numbers fails
  /// alone. May throw std::bad_alloc; then nothing of the plan counts as done.
  step_result run(const step_plan& plan);

private:
  struct slot {
    sampler_state sampler;
    std::shared_ptr<const std::vector<std::int32_t>> known;
    std::uint64_t joined = 0;
    std::int32_t last = -1;  ///< token sampled last, fed by the next decode row
    std::vector<std::int32_t> blocks;
    bool ended = false;
  };

  step_runner(std::shared_ptr<const models::loaded_model> model, kernels::lane& lane, models::forward_scratch scratch,
              std::unique_ptr<kernels::kv_arena> kv, std::int32_t slots);
  void update_slots(const step_plan& plan);
  void add_rows(const slot_work& work, slot& s, step_result& done);
  void sample(step_result& done);
  step_token settle(std::int32_t index, kernels::sampled& pick);

  std::shared_ptr<const models::loaded_model> model_;
  kernels::lane* lane_;
  models::forward_scratch scratch_;
  std::unique_ptr<kernels::kv_arena> kv_;
  std::vector<std::optional<slot>> slots_;
  // The batch in hand, kept to spare allocations.
  std::vector<std::int32_t> ids_;
  std::vector<kernels::sequence_rows> sequences_;
  std::vector<std::int32_t> sample_rows_;
  std::vector<std::int32_t> sample_slots_;
  std::vector<kernels::sampling_row> sampling_;
  std::vector<kernels::sampled> picks_;
};

}  // namespace troupe::actors
