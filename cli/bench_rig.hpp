// One model on one lane, stepped by hand: what `troupe bench` times. Knows no clock and no table.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include <troupe/result.hpp>

#include "kernels/cpu/cpu_lane.hpp"
#include "kernels/cpu/machine_limits.hpp"
#include "models/model.hpp"

namespace troupe::cli {

/// The floor of a step's time: bytes it must read, and operations it must do.
struct step_cost {
  double bytes = 0;
  double operations = 0;
  double seconds(const kernels::machine_limits& limits) const noexcept;
};

class bench_rig {
public:
  static result<std::unique_ptr<bench_rig>> create(const std::string& path, const kernels::cpu_lane_options& options);

  /// Room for `sequences` sequences of `tokens` tokens and steps of `rows` rows. Call before the steps below.
  result<void> reserve(std::int32_t sequences, std::int32_t tokens, std::int32_t rows);

  /// Tokens [past, past + rows) of sequence 0 as one prompt chunk; the last row is sampled where `last`.
  void prefill(std::int32_t past, std::int32_t rows, bool last);
  /// One token for each of `sequences` sequences at position `past`, sampled greedily and fed to the next call.
  void decode(std::int32_t sequences, std::int32_t past);

  step_cost prefill_cost(std::int32_t rows) const;
  step_cost decode_cost(std::int32_t sequences, std::int32_t past) const;
  const models::loaded_model& model() const noexcept { return *model_; }
  kernels::isa which() const noexcept { return lane_->which(); }

private:
  bench_rig() = default;
  void step(std::span<const kernels::sequence_rows> sequences, std::int32_t rows, std::span<const std::int32_t> sample_rows);
  double weights_of_layers() const noexcept;
  double weights_of_head() const noexcept;

  std::unique_ptr<kernels::cpu_lane> lane_;
  std::shared_ptr<const models::loaded_model> model_;
  std::unique_ptr<kernels::kv_arena> kv_;
  std::unique_ptr<models::forward_scratch> scratch_;
  std::vector<std::vector<std::int32_t>> tables_;  ///< block tables, one a sequence
  std::vector<std::int32_t> ids_;
  std::vector<kernels::sampling_row> greedy_;
  std::vector<kernels::sampled> picks_;
};

}  // namespace troupe::cli
