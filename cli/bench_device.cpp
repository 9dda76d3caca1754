// Steps through begin_step and end_step, two in flight, as the engine drives them; tokens stay on the device.
#include "cli/bench_device.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <memory>
#include <numeric>

#include "base/json_writer.hpp"
#include "kernels/cuda/cuda_lane.hpp"
#include "models/llama/llama_random.hpp"
#include "models/model.hpp"

namespace troupe::cli {
namespace {

using clock = std::chrono::steady_clock;
double since(clock::time_point start) { return std::chrono::duration<double>(clock::now() - start).count(); }

/// One network on one device, stepped by hand.
class device_rig {
public:
  static result<std::unique_ptr<device_rig>> create(const device_bench_options& o);

  /// Room for `sequences` sequences of `tokens` tokens and steps of `rows` rows.
  result<void> reserve(std::int32_t sequences, std::int32_t tokens, std::int32_t rows);
  /// One prompt chunk of sequence 0.
  result<void> prefill(std::int32_t past, std::int32_t rows);
  /// `steps` tokens for each sequence from position `past` on, each feeding the next; two steps in flight.
  result<void> decode(std::int32_t sequences, std::int32_t past, std::int32_t steps);

  const models::network& network() const noexcept { return *network_; }
  kernels::cuda::cuda_lane& lane() noexcept { return *lane_; }
  bool one_at_a_time = false;
  /// Between the end of a step and the beginning of the next, by the device's clock: microseconds, one a step.
  std::vector<double> gaps;

private:
  device_rig() = default;
  result<void> begin(std::span<const kernels::sequence_rows> sequences, std::span<const std::int32_t> ids, std::span<const std::int32_t> wanted);
  result<void> end();

  std::unique_ptr<kernels::cuda::cuda_lane> lane_;
  std::shared_ptr<const models::loaded_model> model_;  // of a file; owns network_ then
  std::unique_ptr<const models::network> random_;
  const models::network* network_ = nullptr;
  std::unique_ptr<kernels::kv_arena> kv_;
  std::unique_ptr<models::forward_scratch> scratch_;
  std::unique_ptr<kernels::step_space> steps_;
  std::vector<std::vector<std::int32_t>> tables_;
  std::vector<std::int32_t> numbers_;  // 0, 1, 2, ...
  std::vector<std::int32_t> ids_;
  std::vector<kernels::sampling_row> greedy_;
  std::vector<kernels::sampled> picks_;
  std::uint64_t last_ended_ = 0;
};

result<std::unique_ptr<device_rig>> device_rig::create(const device_bench_options& o) {
  std::unique_ptr<device_rig> rig(new device_rig);
  auto lane = kernels::cuda::make_cuda_lane();
  if (!lane) return lane.why();
  rig->lane_ = *std::move(lane);
  if (!o.model.empty()) {
    auto model = models::load_model(o.model, *rig->lane_);
    if (!model) return model.why();
    rig->model_ = *std::move(model);
    rig->network_ = rig->model_->network.get();
    return rig;
  }
  auto shape = models::known_shape(o.shape);
  if (!shape) return shape.why();
  const std::string head = !o.head_type.empty() ? o.head_type : o.type == "fp8" ? "bf16" : o.type;
  const bool tied = models::tied_shape(o.shape) && head == "bf16";  // a table is looked up in floats
  auto made = models::make_random_llama(*std::move(shape), tied, *rig->lane_,
      [&](models::matrix_role role, std::int64_t rows, std::int64_t cols, std::uint64_t seed) {
        const std::string& type = role == models::matrix_role::layer ? o.type : head;
        return rig->lane_->random_matrix(role == models::matrix_role::embedding ? "bf16" : type, rows, cols, seed);
      });
  if (!made) return made.why();
  rig->random_ = *std::move(made);
  rig->network_ = rig->random_.get();
  return rig;
}

result<void> device_rig::reserve(std::int32_t sequences, std::int32_t tokens, std::int32_t rows) {
  steps_.reset();
  scratch_.reset();
  kv_.reset();
  const models::model_shape& shape = network_->shape();
  const std::int32_t blocks_each = (tokens + kernels::kv_shape::block_tokens - 1) / kernels::kv_shape::block_tokens;
  auto kv = lane_->make_kv(shape.kv(), sequences * blocks_each);
  if (!kv) return kv.why();
  kv_ = *std::move(kv);
  if (auto r = lane_->fill_random(*kv_, 1); !r) return r;
  const std::int32_t most = std::max(rows, sequences);
  auto scratch = models::forward_scratch::create(*lane_, shape, std::max(most, 512), std::max(sequences, 512));
  if (!scratch) return scratch.why();
  scratch_ = std::make_unique<models::forward_scratch>(*std::move(scratch));
  auto steps = lane_->make_steps({most, sequences, sequences, tokens, sequences});
  if (!steps) return steps.why();
  steps_ = *std::move(steps);
  // Blocks are dealt in turn, so that a sequence's blocks are apart as they are in a busy server.
  tables_.assign(static_cast<std::size_t>(sequences), {});
  std::int32_t next = 0;
  for (std::int32_t i = 0; i < blocks_each; ++i)
    for (auto& table : tables_) table.push_back(next++);
  numbers_.resize(static_cast<std::size_t>(most));
  std::iota(numbers_.begin(), numbers_.end(), 0);
  greedy_.assign(static_cast<std::size_t>(sequences), {});
  picks_.assign(static_cast<std::size_t>(sequences), {});
  return {};
}

result<void> device_rig::begin(std::span<const kernels::sequence_rows> sequences, std::span<const std::int32_t> ids,
                               std::span<const std::int32_t> wanted) {
  const auto samples = wanted.size();
  const models::step_batch batch{ids, sequences, wanted, std::span(greedy_).first(samples), std::span(numbers_).first(samples),
                                 std::span(picks_).first(samples)};
  auto begun = lane_->begin_step(steps_.get(), batch, [this](const models::step_batch& b) {
    const auto logits = network_->forward(*lane_, {0, network_->shape().layers}, b, *scratch_, *kv_);
    if (!b.sampling.empty()) lane_->sample(logits, b.sampling, b.picks);
  });
  if (!begun) return begun.why();
  return {};
}

result<void> device_rig::end() {
  if (auto ended = lane_->end_step(); !ended) return ended;
  const auto times = lane_->last_times();
  if (last_ended_ != 0) gaps.push_back((static_cast<double>(times.began) - static_cast<double>(last_ended_)) / 1e3);
  last_ended_ = times.ended;
  return {};
}

result<void> device_rig::prefill(std::int32_t past, std::int32_t rows) {
  const kernels::sequence_rows sequence{0, rows, past, tables_[0]};
  ids_.resize(static_cast<std::size_t>(rows));
  for (std::int32_t i = 0; i < rows; ++i) ids_[static_cast<std::size_t>(i)] = (i * 7919 + 13) % network_->shape().vocabulary;
  const std::int32_t last = rows - 1;
  if (auto r = begin({&sequence, 1}, ids_, {&last, 1}); !r) return r;
  return end();
}

result<void> device_rig::decode(std::int32_t sequences, std::int32_t past, std::int32_t steps) {
  std::vector<kernels::sequence_rows> rows(static_cast<std::size_t>(sequences));
  std::vector<std::int32_t> last(rows.size());
  last_ended_ = 0;
  for (std::int32_t step = 0; step <= steps; ++step) {
    if (step < steps) {
      for (std::size_t i = 0; i < rows.size(); ++i) {
        const auto row = static_cast<std::int32_t>(i);
        rows[i] = {row, 1, past + step, tables_[i]};
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

struct cost {
  double bytes = 0;
  double flops = 0;
  double seconds(const kernels::cuda::device_limits& limits) const {
    return std::max(bytes / limits.read_bytes_per_second, flops / limits.bf16_flops_per_second);
  }
};

double weights(const models::model_shape& s, bool head) {
  const double layer = double(s.width) * (s.qkv_width() + s.attention_width()) + 3.0 * s.width * s.feed_forward;
  return s.layers * layer + (head ? double(s.vocabulary) * s.width : 0.0);
}

cost decode_cost(device_rig& rig, std::int32_t batch, double context) {
  const auto& s = rig.network().shape();
  const double kv_token = double(rig.lane().kv_block_bytes(s.kv())) / kernels::kv_shape::block_tokens;
  return {double(rig.network().bytes_per_step()) + batch * context * kv_token, 2.0 * batch * weights(s, true)};
}

cost prefill_cost(device_rig& rig, std::int32_t rows, std::int32_t past) {
  const auto& s = rig.network().shape();
  const double attention = 4.0 * s.layers * s.attention_width() * rows * (past + rows / 2.0);
  return {double(rig.network().bytes_per_step()), 2.0 * rows * weights(s, false) + 2.0 * s.vocabulary * s.width + attention};
}

struct printed_row {
  std::string test;
  std::int32_t batch = 1;
  std::vector<double> seconds;  // one a repetition
  double tokens = 0;
  double floor = 0;  // seconds
  double bytes = 0;  // a step
  double gap_us = -1;
};

class printer {
public:
  explicit printer(const device_bench_options& o) : o_(o) {}
  void print(printed_row r) {
    std::sort(r.seconds.begin(), r.seconds.end());
    const double median = r.seconds[r.seconds.size() / 2];
    if (o_.json) {
      std::string line;
      base::json_writer(line).begin_object().field("device", "cuda").field("test", r.test).field("model", o_.model.empty() ? o_.shape : o_.model)
          .field("type", o_.model.empty() ? o_.type : "file").field("batch", r.batch).field("tokens_per_s", r.tokens / median)
          .field("tokens_per_s_min", r.tokens / r.seconds.back()).field("tokens_per_s_max", r.tokens / r.seconds.front())
          .field("limit_tokens_per_s", r.tokens / r.floor).field("share_of_limit", r.floor / median).field("bytes_a_step", r.bytes)
          .field("gap_us", r.gap_us).end_object();
      std::cout << line << std::endl;
      return;
    }
    if (!headed_) std::printf("%-14s %6s %12s %19s %12s %6s %9s %8s\n", "test", "batch", "tokens/s", "min - max", "limit", "share", "GB/step", "gap us");
    headed_ = true;
    std::printf("%-14s %6d %12.1f %9.1f -%8.1f %12.1f %6.3f %9.3f %8.1f\n", r.test.c_str(), r.batch, r.tokens / median,
                r.tokens / r.seconds.back(), r.tokens / r.seconds.front(), r.tokens / r.floor, r.floor / median, r.bytes / 1e9, r.gap_us);
    std::fflush(stdout);
  }

private:
  const device_bench_options& o_;
  bool headed_ = false;
};

std::string at_depth(std::string test, std::int32_t depth) { return depth > 0 ? test + "@d" + std::to_string(depth) : test; }

/// Where a step's time goes, op by op, largest first.
template <class Run>
result<void> print_profile(device_rig& rig, double steps, const Run& run) {
  rig.lane().profile(true);
  rig.one_at_a_time = true;
  auto warm = run();
  rig.lane().take_profile();
  auto done = warm ? run() : std::move(warm);
  rig.one_at_a_time = false;
  rig.lane().profile(false);
  if (!done) return done;
  std::vector<std::pair<double, std::string>> ops;
  double all = 0;
  for (const auto& [op, microseconds] : rig.lane().take_profile()) {
    ops.emplace_back(microseconds / steps, op);
    all += microseconds / steps;
  }
  std::sort(ops.rbegin(), ops.rend());
  std::printf("  us a step:");
  for (const auto& [microseconds, op] : ops) std::printf(" %s %.1f", op.c_str(), microseconds);
  std::printf(" = %.1f\n", all);
  return {};
}

result<void> prefill_row(device_rig& rig, const device_bench_options& o, std::int32_t tokens, std::int32_t depth,
                         const kernels::cuda::device_limits& limits, printer& out) {
  constexpr std::int32_t chunk = 2048;
  if (auto r = rig.reserve(1, depth + tokens, std::min(chunk, tokens)); !r) return r;
  printed_row row{at_depth("pp" + std::to_string(tokens), depth), 1, {}, double(tokens), 0, 0, -1};
  for (std::int32_t i = -1; i < o.repeat; ++i) {
    const auto start = clock::now();
    for (std::int32_t done = 0; done < tokens; done += chunk)
      if (auto r = rig.prefill(depth + done, std::min(chunk, tokens - done)); !r) return r;
    if (i >= 0) row.seconds.push_back(since(start));
  }
  if (o.profile)
    if (auto r = print_profile(rig, 1, [&] { return rig.prefill(depth, std::min(chunk, tokens)); }); !r) return r;
  const cost least = prefill_cost(rig, tokens, depth);
  row.floor = least.seconds(limits);
  row.bytes = least.bytes;
  out.print(std::move(row));
  return {};
}

result<void> decode_row(device_rig& rig, const device_bench_options& o, std::int32_t batch, std::int32_t tokens, std::int32_t depth,
                        const kernels::cuda::device_limits& limits, printer& out) {
  if (auto r = rig.reserve(batch, depth + tokens + 1, batch); !r) return r;
  printed_row row{at_depth("tg" + std::to_string(tokens), depth), batch, {}, double(tokens) * batch, 0, 0, -1};
  for (std::int32_t i = -1; i < o.repeat; ++i) {
    rig.gaps.clear();
    const auto start = clock::now();
    if (auto r = rig.decode(batch, depth, tokens); !r) return r;
    if (i >= 0) row.seconds.push_back(since(start));
  }
  const cost least = decode_cost(rig, batch, depth + tokens / 2.0);
  row.floor = least.seconds(limits) * tokens;
  row.bytes = least.bytes;
  if (o.profile)
    if (auto r = print_profile(rig, tokens, [&] { return rig.decode(batch, depth, tokens); }); !r) return r;
  std::sort(rig.gaps.begin(), rig.gaps.end());
  if (!rig.gaps.empty()) row.gap_us = rig.gaps[rig.gaps.size() / 2];
  out.print(std::move(row));
  return {};
}

}  // namespace

result<void> bench_device(const device_bench_options& o) {
  const auto started = clock::now();
  auto rig = device_rig::create(o);
  if (!rig) return rig.why();
  std::cerr << "weights on the device after " << since(started) << " s\n";
  auto limits = (*rig)->lane().measure_limits();
  if (!limits) return limits.why();
  std::cerr << "limits: reads " << limits->read_bytes_per_second / 1e12 << " TB/s, bf16 " << limits->bf16_flops_per_second / 1e12 << " TFLOP/s\n";
  printer out(o);
  for (const std::int32_t depth : o.depth) {
    for (const std::int32_t tokens : o.prompt)
      if (tokens > 0)
        if (auto r = prefill_row(**rig, o, tokens, depth, *limits, out); !r) return r;
    for (const std::int32_t tokens : o.generate)
      for (const std::int32_t batch : o.batch)
        if (tokens > 0)
          if (auto r = decode_row(**rig, o, batch, tokens, depth, *limits, out); !r) return r;
  }
  return {};
}

}  // namespace troupe::cli
