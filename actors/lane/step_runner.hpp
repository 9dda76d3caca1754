// Runs plans on a lane: slots, block tables, the batch, forward, sampling, ends. Knows no actor, no queue, no text.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include <troupe/result.hpp>

#include "actors/lane/step_machine.hpp"
#include "actors/sampler/sampler_state.hpp"
#include "kernels/any_lane.hpp"
#include "models/model.hpp"

namespace troupe::actors {

struct runner_options {
  std::int32_t max_sequences = 64;
  std::int32_t max_batch_tokens = 512;  ///< rows of the largest step
  std::int32_t kv_blocks = 0;
  kernels::lane* prompts = nullptr;  ///< a second queue of the lane's device, for plans of the prefill actor; or null
};

/// Owns the KV arena, activations and slots of one model on one lane, or on two queues of one device: a sequence has
/// work on one of them at a time, and what it needs of the other is read by then. Memory is taken in create; a step
/// allocates only for its result and where a block table grows.
class step_runner final : public step_machine {
public:
  /// The lane outlives the runner. Errors: out_of_memory.
  static result<std::unique_ptr<step_runner>> create(std::shared_ptr<const models::loaded_model> model,
                                                     kernels::lane& lane, runner_options options);

  /// Waits for the steps in flight, which the lane would else write to memory that is gone.
  ~step_runner() override;

  /// Before the first step. `how` is called for each queue.
  result<void> warm_up(const kernels::lane_warming& how);

  /// A decode row whose token is still on the device is fed there. Rows that need what the host has not read yet
  /// (penalties count every token) wait for it.
  begun_step begin(const step_plan& plan) override;
  void wait(lane_kind kind, kernels::step_ticket ticket) override { queue_of(kind).lane->wait_step(ticket); }
  step_result finish(lane_kind kind) override;
  /// Where it keeps K and V. Blocks that no step in flight touches are whoever's the planner says.
  kernels::kv_arena& kv() noexcept { return *kv_; }
  /// begin, and finish where that is needed.
  step_result run(const step_plan& plan);
  step_result fail(const step_plan& plan, const error& why) override;

private:
  struct slot {
    std::shared_ptr<const sequence_terms> terms;  // null: empty
    std::shared_ptr<const std::vector<std::int32_t>> known;
    std::uint64_t joined = 0;
    std::int32_t rows = 0;    // in the KV cache
    std::int32_t last = -1;   // token sampled last
    std::int32_t unread = 0;  // samples of steps that are not finished
    bool ended = false;
    std::vector<std::int32_t> blocks;
    sampler_state sampler;
  };

  /// What finish must know of a step begun.
  struct pending_step {
    struct row {
      std::int32_t slot;
      std::uint64_t joined;
      bool sample;
    };
    step_result result;
    std::vector<row> work;
    std::vector<kernels::sampled> picks;  // of the rows with `sample`, in order
  };

  /// Steps that are computed in order, with the activations that they share.
  struct queue {
    kernels::lane* lane;
    models::forward_scratch scratch;
    std::unique_ptr<kernels::step_space> steps;
    std::deque<pending_step> pending;
    std::deque<step_result> settled;  // finished before they were asked for
  };

  step_runner(std::shared_ptr<const models::loaded_model> model, std::unique_ptr<kernels::kv_arena> kv,
              runner_options options);
  result<void> add_queue(kernels::lane& lane, const runner_options& options);
  queue& queue_of(lane_kind kind) { return kind == lane_kind::prefill ? queues_.back() : queues_.front(); }

  void call_ops(queue& on, const kernels::step_batch& batch, std::int32_t skipped_to);
  slot* slot_at(std::int32_t index);
  void change_slots(const step_plan& plan);
  void gather(const step_plan& plan, const models::forward_scratch& room, pending_step& step);
  void add_rows(const slot_work& work, slot& one, pending_step& step);
  bool needs_unread(const step_plan& plan);
  void settle_oldest(queue& on);
  void take_picks(pending_step& step);
  const char* fault_of(const slot_work& work, const slot& one, const models::forward_scratch& room) const;
  result<kernels::step_ticket> compute(queue& on, pending_step& step);
  void fail_rows(pending_step& step, const error& why);
  void apply(std::int32_t index, kernels::sampled& pick, step_result& result);
  void fail_slot(std::int32_t index, const error& why, step_result& result);

  std::shared_ptr<const models::loaded_model> model_;
  std::unique_ptr<kernels::kv_arena> kv_;
  std::deque<queue> queues_;  // of decodes, or of all; of prompts
  std::vector<slot> slots_;
  // The batch of the step in hand; members so that their memory is kept.
  std::vector<std::int32_t> ids_;
  std::vector<kernels::sequence_rows> sequences_;
  std::vector<std::int32_t> sample_rows_;
  std::vector<std::int32_t> sample_slots_;
  std::vector<kernels::sampling_row> sampling_;
};

}  // namespace troupe::actors
