// The cores of scheduler, KV store and lane on one thread, driven as the actors drive them: what an engine's steps cost
// without messages and text. Knows no workload.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "actors/kv_store/kv_store.hpp"
#include "actors/lane/lane_thread.hpp"
#include "actors/lane/step_runner.hpp"
#include "actors/scheduler/step_planner.hpp"
#include "kernels/kv_copies.hpp"
#include "models/model.hpp"

namespace troupe::cli {

class planned_steps {
public:
  struct options {
    std::int32_t max_sequences = 256;
    std::int32_t max_batch_tokens = 2048;
    std::int32_t kv_blocks = 0;
    double most_growth = 0;  ///< of planner_options
    kernels::lane* prompts =
        nullptr;  ///< a second queue: all prompts are computed there; with most_growth those that the planner chooses
    kernels::lane_warming warm_up = {};  ///< of both queues; or empty: the first steps take longer
    bool share_prefixes = false;         ///< sequences that begin alike read the same blocks
    std::int64_t host_bytes = 0;         ///< where blocks go that leave the device; with prefixes shared
    kernels::kv_copies_maker copies = {};
  };
  using clock = actors::clock;
  /// Called for each token that a step brought, with the time at which the host had it.
  using listener = std::function<void(const actors::step_token&, clock::time_point)>;

  /// `lane` outlives this.
  static result<std::unique_ptr<planned_steps>> create(std::shared_ptr<const models::loaded_model> model,
                                                       kernels::lane& lane, const options& o, listener on_token);

  /// Greedy, ends by length. Ids of sequences count from 1.
  actors::generation_id submit(std::vector<std::int32_t> prompt, std::int32_t max_tokens,
                               std::int32_t top_logprobs = -1);
  /// Handles the end of a step, or returns at `until`. The first failure of a sequence or of the planner is the answer.
  result<void> advance(clock::time_point until = clock::time_point::max());
  void end(actors::generation_id id);
  void pause(actors::generation_id id, bool on);
  /// Until nothing is left to do.
  result<void> finish();
  bool idle() const { return planner_.empty(); }

  /// Of the steps that ended since the last call.
  struct figures {
    std::int64_t steps = 0, mixed = 0, prefills = 0;  ///< mixed: with rows of both kinds; prefills: with no decode
    std::int64_t rows = 0;
    double decode_ms = 0, mixed_ms = 0, prefill_ms = 0;  ///< from end to end, or from its beginning on an idle device
    double host_us = 0;                                  ///< CPU time of this thread
    std::int64_t preemptions = 0;
    std::int64_t blocks_out = 0, blocks_in = 0;  ///< copied to host memory, and back
  };
  figures take_figures();

private:
  struct flight {
    actors::lane_kind kind;
    std::shared_ptr<const actors::step_plan> plan;
    clock::time_point begun;
    std::optional<actors::step_result> result;  // of a lane that computes while it begins
  };

  struct ended_copy {
    memory::copy_order order;
    bool well = false;
  };

  planned_steps(const actors::planner_options& planner, std::unique_ptr<actors::step_runner> runner,
                std::unique_ptr<kernels::kv_copies> copies, listener on_token);
  void carry_out(actors::planner_outputs out);
  std::size_t queue_of(actors::lane_kind kind) const { return two_queues_ ? static_cast<std::size_t>(kind) : 1; }
  bool over(std::size_t queue) const {
    return steps_over_[queue] > 0 || (!flights_[queue].empty() && flights_[queue].front().result);
  }
  void copy(memory::copy_order order);
  void hear(ended_copy copied);
  void begin(actors::planner_outputs::routed_plan routed);
  void take(actors::step_result result, clock::time_point begun);

  std::unique_ptr<actors::step_runner> runner_;
  std::unique_ptr<kernels::kv_copies> copies_;
  actors::step_planner planner_;
  actors::kv_store store_;
  listener on_token_;
  bool two_queues_;
  actors::generation_id next_id_ = 1;
  std::deque<flight> flights_[2];  // by lane_kind; of one queue, all are in the second
  result<void> outcome_;
  figures figures_;
  double counted_us_ = 0;
  clock::time_point last_end_{};
  std::int32_t copying_ = 0;  // orders
  // Told by the threads that wait for the device.
  std::mutex mutex_;
  std::condition_variable over_;
  std::int32_t steps_over_[2] = {};
  std::deque<ended_copy> copied_;
  actors::lane_thread copiers_[2];  // by copy_way
  actors::lane_thread waiting_[2];  // last: their jobs use what is above
};

}  // namespace troupe::cli
