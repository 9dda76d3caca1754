// One network on one GPU, stepped by hand: what `troupe bench --device cuda` measures with. Knows no row and no actor.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "cli/bench_device.hpp"
#include "kernels/cuda/cuda_lane.hpp"
#include "models/model.hpp"

namespace troupe::cli {

class device_rig {
public:
  static result<std::unique_ptr<device_rig>> create(const device_bench_options& o);

  /// Room for one sequence for each of `tokens`, so long, the first `shared` of which (whole blocks) lie in the same
  /// blocks for all, and steps of `rows` rows.
  result<void> reserve(std::span<const std::int32_t> tokens, std::int32_t shared, std::int32_t rows);
  /// Gives back what reserve took.
  void clear();
  /// One prompt chunk of sequence 0.
  result<void> prefill(std::int32_t past, std::int32_t rows);
  /// `steps` tokens for each sequence from its position in `past` on, each feeding the next; two steps in flight.
  result<void> decode(std::span<const std::int32_t> past, std::int32_t steps);

  const models::network& network() const noexcept { return *model_->network; }
  const std::shared_ptr<const models::loaded_model>& model() const noexcept { return model_; }
  kernels::cuda::cuda_lane& lane() noexcept { return *lane_; }
  bool one_at_a_time = false;
  /// Between the end of a step and the beginning of the next, by the device's clock: microseconds, one a step.
  std::vector<double> gaps;
  /// What beginning and ending the steps took of this thread since it was set: microseconds on a processor.
  double host_us = 0;

private:
  device_rig() = default;
  result<void> begin(std::span<const kernels::sequence_rows> sequences, std::span<const std::int32_t> ids,
                     std::span<const std::int32_t> wanted);
  result<void> end();

  std::unique_ptr<kernels::cuda::cuda_lane> lane_;
  std::shared_ptr<const models::loaded_model> model_;
  std::unique_ptr<kernels::kv_arena> kv_;
  std::unique_ptr<models::forward_scratch> scratch_;
  std::unique_ptr<kernels::step_space> steps_;
  std::vector<std::vector<std::int32_t>> tables_;
  std::vector<std::int32_t> numbers_;  // 0, 1, 2, ...
  std::vector<std::int32_t> ids_;
  std::vector<kernels::sampling_row> greedy_;
  std::vector<kernels::sampled> picks_;
  std::deque<kernels::step_ticket> tickets_;  // of steps that run
  std::uint64_t last_ended_ = 0;
};

}  // namespace troupe::cli
