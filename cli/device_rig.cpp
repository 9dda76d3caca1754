// Steps through begin_step and end_step, two in flight, as the engine drives them; tokens stay on the device.
#include "cli/device_rig.hpp"

#include <algorithm>
#include <numeric>

#include "cli/thread_time.hpp"
#include "models/llama/llama_random.hpp"

namespace troupe::cli {
namespace {

std::int32_t blocks_of(std::int32_t tokens) {
  return (tokens + kernels::kv_shape::block_tokens - 1) / kernels::kv_shape::block_tokens;
}

result<std::shared_ptr<const models::loaded_model>> random_model(const device_bench_options& o,
                                                                 kernels::cuda::cuda_lane& lane) {
  auto shape = models::known_shape(o.shape);
  if (!shape) return shape.why();
  const std::string head = !o.head_type.empty() ? o.head_type : o.type == "fp8" ? "bf16" : o.type;
  const bool tied = models::tied_shape(o.shape) && head == "bf16";  // a table is looked up in floats
  auto made = models::make_random_llama(
      *std::move(shape), tied, lane,
      [&](models::matrix_role role, std::int64_t rows, std::int64_t cols, std::uint64_t seed) {
        const std::string& type = role == models::matrix_role::layer ? o.type : head;
        return lane.random_matrix(role == models::matrix_role::embedding ? "bf16" : type, rows, cols, seed);
      });
  if (!made) return made.why();
  auto model = std::make_shared<models::loaded_model>();
  model->architecture = "llama";
  model->network = std::unique_ptr<const models::network>(*std::move(made));
  return std::shared_ptr<const models::loaded_model>(std::move(model));
}

}  // namespace

result<std::unique_ptr<device_rig>> device_rig::create(const device_bench_options& o) {
  std::unique_ptr<device_rig> rig(new device_rig);
  auto lane = kernels::cuda::make_cuda_lane({.kv = o.kv_type, .deterministic = o.deterministic, .copies = o.copies});
  if (!lane) return lane.why();
  rig->lane_ = *std::move(lane);
  auto model = o.model.empty() ? random_model(o, *rig->lane_) : models::load_model(o.model, *rig->lane_);
  if (!model) return model.why();
  rig->model_ = *std::move(model);
  return rig;
}

void device_rig::clear() {
  tickets_.clear();
  steps_.reset();
  scratch_.reset();
  kv_.reset();
}

result<void> device_rig::reserve(std::span<const std::int32_t> tokens, std::int32_t shared, std::int32_t rows) {
  clear();
  const models::model_shape& shape = network().shape();
  const auto sequences = static_cast<std::int32_t>(tokens.size());
  const std::int32_t together = shared / kernels::kv_shape::block_tokens;
  std::int32_t blocks = together;
  for (const std::int32_t one : tokens) blocks += blocks_of(one) - together;
  auto kv = lane_->make_kv(shape.kv(), blocks);
  if (!kv) return kv.why();
  kv_ = *std::move(kv);
  if (auto r = lane_->fill_random(*kv_, 1); !r) return r;
  const std::int32_t most = std::max(rows, sequences);
  auto scratch = models::forward_scratch::create(*lane_, shape, std::max(most, 512), std::max(sequences, 512));
  if (!scratch) return scratch.why();
  scratch_ = std::make_unique<models::forward_scratch>(*std::move(scratch));
  auto steps =
      lane_->make_steps({most, sequences, sequences, *std::max_element(tokens.begin(), tokens.end()), sequences});
  if (!steps) return steps.why();
  steps_ = *std::move(steps);
  // Blocks are dealt in turn, so that a sequence's blocks are apart as they are in a busy server.
  std::vector<std::int32_t> first(static_cast<std::size_t>(together));
  std::iota(first.begin(), first.end(), 0);
  tables_.assign(tokens.size(), first);
  for (std::int32_t next = together, depth = together; next < blocks; ++depth)
    for (std::size_t i = 0; i < tokens.size(); ++i)
      if (depth < blocks_of(tokens[i])) tables_[i].push_back(next++);
  numbers_.resize(static_cast<std::size_t>(most));
  std::iota(numbers_.begin(), numbers_.end(), 0);
  greedy_.assign(tokens.size(), {});
  picks_.assign(tokens.size(), {});
  return {};
}

result<void> device_rig::begin(std::span<const kernels::sequence_rows> sequences, std::span<const std::int32_t> ids,
                               std::span<const std::int32_t> wanted) {
  const double from = thread_microseconds();
  const auto samples = wanted.size();
  const models::step_batch batch{ids,
                                 sequences,
                                 wanted,
                                 std::span(greedy_).first(samples),
                                 std::span(numbers_).first(samples),
                                 std::span(picks_).first(samples)};
  auto begun = lane_->begin_step(steps_.get(), batch, [this](const models::step_batch& b) {
    const auto logits = network().forward(*lane_, {0, network().shape().layers}, b, *scratch_, *kv_);
    if (!b.sampling.empty()) lane_->sample(logits, b.sampling, b.picks);
  });
  if (!begun) return begun.why();
  host_us += thread_microseconds() - from;
  tickets_.push_back(*begun);
  return {};
}

result<void> device_rig::end() {
  lane_->wait_step(tickets_.front());  // another thread's work in the engine
  tickets_.pop_front();
  const double from = thread_microseconds();
  if (auto ended = lane_->end_step(); !ended) return ended;
  host_us += thread_microseconds() - from;
  const auto times = lane_->last_times();
  if (last_ended_ != 0) gaps.push_back((static_cast<double>(times.began) - static_cast<double>(last_ended_)) / 1e3);
  last_ended_ = times.ended;
  return {};
}

result<void> device_rig::prefill(std::int32_t past, std::int32_t rows) {
  const kernels::sequence_rows sequence{0, rows, past, tables_[0]};
  ids_.resize(static_cast<std::size_t>(rows));
  for (std::int32_t i = 0; i < rows; ++i)
    ids_[static_cast<std::size_t>(i)] = (i * 7919 + 13) % network().shape().vocabulary;
  const std::int32_t last = rows - 1;
  if (auto r = begin({&sequence, 1}, ids_, {&last, 1}); !r) return r;
  return end();
}

result<void> device_rig::decode(std::span<const std::int32_t> past, std::int32_t steps) {
  std::vector<kernels::sequence_rows> rows(past.size());
  std::vector<std::int32_t> last(rows.size());
  last_ended_ = 0;
  for (std::int32_t step = 0; step <= steps; ++step) {
    if (step < steps) {
      for (std::size_t i = 0; i < rows.size(); ++i) {
        const auto row = static_cast<std::int32_t>(i);
        rows[i] = {row, 1, past[i] + step, tables_[i]};
        last[i] = step == 0 ? 1 + row : -1 - row;  // then what the step before chose, wherever it is
      }
      if (auto r = begin(rows, last, std::span(numbers_).first(rows.size())); !r) return r;
    }
    // The one before, while this one computes; with a profile each step by itself.
    if (step > 0 || one_at_a_time)
      if (auto r = end(); !r) return r;
    if (one_at_a_time && step + 1 == steps) break;
  }
  return {};
}

}  // namespace troupe::cli
