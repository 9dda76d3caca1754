// One model on one lane, stepped by hand: what `troupe bench` times. Knows no table and no limit.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include <troupe/result.hpp>

#include "kernels/cpu/cpu_lane.hpp"
#include "kernels/cpu/profiling_lane.hpp"
#include "models/model.hpp"

namespace troupe::cli {

class bench_rig {
public:
  static result<std::unique_ptr<bench_rig>> create(const std::string& path, const kernels::cpu_lane_options& options);

  /// Room for a sequence of each of `tokens` tokens, the first `shared` of which lie in the same blocks for all, and
  /// for steps of `rows` rows. Call before the steps below.
  result<void> reserve(std::span<const std::int32_t> tokens, std::int32_t shared, std::int32_t rows);

  /// Tokens [past, past + rows) of a sequence as one prompt chunk; the last row is sampled where `last`.
  void prefill(std::int32_t sequence, std::int32_t past, std::int32_t rows, bool last);
  /// One token for each sequence, at position `past` of it, sampled greedily and fed to the next call.
  void decode(std::span<const std::int32_t> past);

  /// Runs `steps` with every op counted and timed, a little slower than without.
  kernels::step_profile profiled(const std::function<void()>& steps);

  const models::loaded_model& model() const noexcept { return *model_; }
  kernels::isa which() const noexcept { return lane_->which(); }
  /// Bytes of K and V: read by attention so far, and of one token.
  double kv_bytes_read() const noexcept { return static_cast<double>(lane_->kv_bytes_read()); }
  double kv_token_bytes() const {
    return static_cast<double>(lane_->kv_block_bytes(model_->shape().kv())) / kernels::kv_shape::block_tokens;
  }

private:
  bench_rig() = default;
  void step(std::span<const kernels::sequence_rows> sequences, std::int32_t rows,
            std::span<const std::int32_t> sample_rows);

  std::unique_ptr<kernels::cpu_lane> lane_;
  std::unique_ptr<kernels::profiling_lane> profile_;
  kernels::lane* driven_ = nullptr;  ///< one of the two above
  std::shared_ptr<const models::loaded_model> model_;
  std::unique_ptr<kernels::kv_arena> kv_;
  std::unique_ptr<models::forward_scratch> scratch_;
  std::vector<std::vector<std::int32_t>> tables_;  ///< block tables, one a sequence
  std::vector<std::int32_t> ids_;
  std::vector<kernels::sampling_row> greedy_;
  std::vector<kernels::sampled> picks_;
};

}  // namespace troupe::cli
