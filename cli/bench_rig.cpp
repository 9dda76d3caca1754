// The steps that bench times.
#include "cli/bench_rig.hpp"

#include <algorithm>
#include <random>

namespace troupe::cli {

result<std::unique_ptr<bench_rig>> bench_rig::create(const std::string& path,
                                                     const kernels::cpu_lane_options& options) {
  auto lane = kernels::make_cpu_lane(options);
  if (!lane) return lane.why();
  std::unique_ptr<bench_rig> rig(new bench_rig);
  rig->lane_ = std::move(*lane);
  rig->profile_ = std::make_unique<kernels::profiling_lane>(*rig->lane_);
  rig->driven_ = rig->lane_.get();
  auto model = models::load_model(path, *rig->lane_);
  if (!model) return model.why();
  rig->model_ = std::move(*model);
  return rig;
}

result<void> bench_rig::reserve(std::span<const std::int32_t> tokens, std::int32_t shared, std::int32_t rows) {
  constexpr std::int32_t block_tokens = kernels::kv_shape::block_tokens;
  const models::model_shape& shape = model_->shape();
  const auto sequences = static_cast<std::int32_t>(tokens.size());
  // Blocks are dealt in turn, so that a sequence's blocks are apart as they are in a busy server.
  tables_.assign(tokens.size(), {});
  std::int32_t next = 0;
  for (std::int32_t i = 0; i * block_tokens < *std::max_element(tokens.begin(), tokens.end()); ++i)
    for (std::size_t s = 0; s < tables_.size(); ++s)
      if (i * block_tokens < tokens[s])
        tables_[s].push_back(s > 0 && (i + 1) * block_tokens <= shared ? tables_[0].back() : next++);
  auto kv = lane_->make_kv(shape.kv(), next);
  if (!kv) return kv.why();
  kv_ = std::move(*kv);
  auto scratch = models::forward_scratch::create(*lane_, shape, rows, std::max(sequences, 1));
  if (!scratch) return scratch.why();
  scratch_ = std::make_unique<models::forward_scratch>(std::move(*scratch));

  std::mt19937 random(1);
  ids_.resize(static_cast<std::size_t>(std::max(rows, sequences)));
  for (auto& id : ids_) id = static_cast<std::int32_t>(random() % static_cast<std::uint32_t>(shape.vocabulary));
  greedy_.assign(static_cast<std::size_t>(std::max(sequences, 1)), {});
  picks_.assign(greedy_.size(), {});
  return {};
}

void bench_rig::step(std::span<const kernels::sequence_rows> sequences, std::int32_t rows,
                     std::span<const std::int32_t> sample_rows) {
  const models::step_batch batch{std::span(ids_).first(static_cast<std::size_t>(rows)), sequences, sample_rows};
  const auto logits = model_->network->forward(*driven_, {0, model_->shape().layers}, batch, *scratch_, *kv_);
  if (!sample_rows.empty())
    driven_->sample(logits, std::span(greedy_).first(sample_rows.size()), std::span(picks_).first(sample_rows.size()));
}

void bench_rig::prefill(std::int32_t sequence, std::int32_t past, std::int32_t rows, bool last) {
  const kernels::sequence_rows chunk{0, rows, past, tables_[static_cast<std::size_t>(sequence)]};
  const std::int32_t last_row = rows - 1;
  step({&chunk, 1}, rows, {&last_row, last ? 1u : 0u});
}

void bench_rig::decode(std::span<const std::int32_t> past) {
  const auto sequences = static_cast<std::int32_t>(past.size());
  std::vector<kernels::sequence_rows> rows;
  std::vector<std::int32_t> wanted;
  for (std::int32_t i = 0; i < sequences; ++i) {
    rows.push_back({i, 1, past[static_cast<std::size_t>(i)], tables_[static_cast<std::size_t>(i)]});
    wanted.push_back(i);
  }
  step(rows, sequences, wanted);
  for (std::int32_t i = 0; i < sequences; ++i)
    ids_[static_cast<std::size_t>(i)] = std::max(picks_[static_cast<std::size_t>(i)].id, 0);
}

kernels::step_profile bench_rig::profiled(const std::function<void()>& steps) {
  profile_->take();
  driven_ = profile_.get();
  steps();
  driven_ = lane_.get();
  return profile_->take();
}

}  // namespace troupe::cli
