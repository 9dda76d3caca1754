// Drives a network step by step over sequences that a test describes, with blocks dealt out in a scattered order.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "models/model.hpp"
#include "support/catch.hpp"

namespace troupe::test {

/// Rows of one sequence in a step.
struct step_rows {
  int sequence = 0;
  std::vector<std::int32_t> ids;
};

class step_driver {
public:
  step_driver(const models::loaded_model& model, kernels::lane& lane, int sequences, std::int32_t tokens_each,
              std::int32_t max_rows = 64)
      : model_(model), lane_(lane), past_(static_cast<std::size_t>(sequences), 0), tables_(past_.size()) {
    auto scratch = models::forward_scratch::create(lane, model.shape(), max_rows, max_rows);
    REQUIRE(scratch.ok());
    scratch_ = std::make_unique<models::forward_scratch>(*std::move(scratch));
    const std::int32_t each = (tokens_each + 15) / 16;
    auto kv = lane.make_kv(model.shape().kv(), each * sequences);
    REQUIRE(kv.ok());
    kv_ = *std::move(kv);
    auto steps = lane.make_steps({max_rows, sequences, max_rows, each * 16, 1});
    REQUIRE(steps.ok());
    steps_ = *std::move(steps);
    std::vector<std::int32_t> blocks(static_cast<std::size_t>(each * sequences));
    std::iota(blocks.begin(), blocks.end(), 0);
    std::shuffle(blocks.begin(), blocks.end(), std::mt19937(5));
    for (std::size_t i = 0; i < blocks.size(); ++i) tables_[i % tables_.size()].push_back(blocks[i]);
  }

  /// Runs the rows as one step and returns the logits of every row, or of those wanted.
  std::vector<std::vector<float>> run(const std::vector<step_rows>& step, models::layer_range range,
                                      const std::vector<std::int32_t>* wanted = nullptr) {
    std::vector<std::int32_t> ids;
    std::vector<kernels::sequence_rows> sequences;
    for (const step_rows& part : step) {
      const auto s = static_cast<std::size_t>(part.sequence);
      const auto rows = static_cast<std::int32_t>(part.ids.size());
      sequences.push_back({static_cast<std::int32_t>(ids.size()), rows, past_[s], tables_[s]});
      ids.insert(ids.end(), part.ids.begin(), part.ids.end());
      if (range.last == model_.shape().layers) past_[s] += rows;
    }
    std::vector<std::int32_t> all(ids.size());
    std::iota(all.begin(), all.end(), 0);
    const std::vector<std::int32_t>& sampled = wanted == nullptr ? all : *wanted;
    auto begun = lane_.begin_step(steps_.get(), {ids, sequences, sampled}, [&](const models::step_batch& batch) {
      model_.network->forward(lane_, range, batch, *scratch_, *kv_);
    });
    REQUIRE(begun.ok());
    REQUIRE(lane_.end_step().ok());
    std::vector<std::vector<float>> out;
    if (range.last != model_.shape().layers) return out;
    const auto logits = lane_.host_view(scratch_->logits(static_cast<std::int64_t>(sampled.size()))).value_or_throw();
    for (std::int64_t r = 0; r < logits.rows; ++r) out.emplace_back(logits.f32(r), logits.f32(r) + logits.cols);
    return out;
  }
  std::vector<std::vector<float>> run(const std::vector<step_rows>& step) {
    return run(step, {0, model_.shape().layers});
  }
  std::vector<std::vector<float>> run_for(const std::vector<std::int32_t>& wanted, const std::vector<step_rows>& step) {
    return run(step, {0, model_.shape().layers}, &wanted);
  }

private:
  const models::loaded_model& model_;
  kernels::lane& lane_;
  std::unique_ptr<models::forward_scratch> scratch_;
  std::unique_ptr<kernels::kv_arena> kv_;
  std::unique_ptr<kernels::step_space> steps_;
  std::vector<std::int32_t> past_;
  std::vector<std::vector<std::int32_t>> tables_;
};

/// Steps of prompts, chunks and decodes, in which some rows are wanted, or none: each has the bits that it has where
/// all are.
inline void check_wanted_rows(const models::loaded_model& model, kernels::lane& lane, std::mt19937& random) {
  step_driver some(model, lane, 3, 160), all(model, lane, 3, 160);
  for (int round = 0; round < 12; ++round) {
    std::vector<step_rows> step;
    std::vector<std::int32_t> wanted;
    std::int32_t rows = 0;
    for (int s = 0; s < 3; ++s) {
      const auto count = static_cast<std::int32_t>(random() % 3 == 0 ? 1 : random() % 13);
      if (count == 0) continue;
      step.push_back({s, {}});
      for (std::int32_t i = 0; i < count; ++i, ++rows) {
        step.back().ids.push_back(
            static_cast<std::int32_t>(random() % static_cast<unsigned>(model.shape().vocabulary)));
        if (round % 4 != 0 && (i + 1 == count ? random() % 4 != 0 : random() % 5 == 0)) wanted.push_back(rows);
      }
    }
    if (step.empty()) continue;
    const auto found = some.run_for(wanted, step), expected = all.run(step);
    REQUIRE(found.size() == wanted.size());
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      INFO("round " << round << ", row " << wanted[i] << " of " << rows);
      CHECK(found[i] == expected[static_cast<std::size_t>(wanted[i])]);
    }
  }
}

}  // namespace troupe::test
