// Rows of `troupe bench --device cuda`: steps of a fixed size, and the workloads of bench_workloads.
#include "cli/bench_device.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>

#include "base/json_writer.hpp"
#include "cli/bench_workloads.hpp"
#include "cli/device_rig.hpp"
#include "cli/planned_steps.hpp"

namespace troupe::cli {
namespace {

using clock = std::chrono::steady_clock;
double since(clock::time_point start) { return std::chrono::duration<double>(clock::now() - start).count(); }

struct cost {
  double bytes = 0;
  double flops = 0;
  double seconds(const kernels::cuda::device_limits& limits) const {
    return std::max(bytes / limits.read_bytes_per_second, flops / limits.bf16_flops_per_second);
  }
};

/// Weights that one row meets: of a layer behind its attention, of all layers and the head.
double weights_behind_attention(const models::model_shape& s) {
  return double(s.width) * s.attention_width() + 3.0 * s.width * s.feed_forward;
}
double weights(const models::model_shape& s) {
  return s.layers * (double(s.width) * s.qkv_width() + weights_behind_attention(s)) + double(s.vocabulary) * s.width;
}

/// `shared`: tokens of the context that are read once for all.
cost decode_cost(device_rig& rig, std::int32_t batch, double context, std::int32_t shared) {
  const auto& s = rig.network().shape();
  const double kv_token = double(rig.lane().kv_bytes_read(s.kv())) / kernels::kv_shape::block_tokens;
  return {double(rig.network().bytes_per_step()) + (batch * (context - shared) + shared) * kv_token,
          2.0 * batch * weights(s)};
}

cost prefill_cost(device_rig& rig, std::int32_t rows, std::int32_t past) {
  const auto& s = rig.network().shape();
  const double attention = 4.0 * s.layers * s.attention_width() * rows * (past + rows / 2.0);
  // One row of them goes on behind the last layer's attention.
  const double after = weights_behind_attention(s) + double(s.vocabulary) * s.width;
  return {double(rig.network().bytes_per_step()), 2.0 * (rows * (weights(s) - after) + after) + attention};
}

struct printed_row {
  std::string test;
  std::int32_t batch = 1;
  std::vector<double> seconds;  // one a repetition
  double tokens = 0;
  double floor = 0;  // seconds
  double bytes = 0;  // a step
  double flops = 0;  // likewise
  double gap_us = -1;
  double host_us = -1;  // of the thread that begins and ends steps, a step
};

class printer {
public:
  explicit printer(const device_bench_options& o) : o_(o) {}
  void print(printed_row r) {
    std::sort(r.seconds.begin(), r.seconds.end());
    const double median = r.seconds[r.seconds.size() / 2];
    if (o_.json) {
      std::string line;
      base::json_writer(line)
          .begin_object()
          .field("device", "cuda")
          .field("test", r.test)
          .field("model", o_.model.empty() ? o_.shape : o_.model)
          .field("type", o_.model.empty() ? o_.type : "file")
          .field("kv_type", o_.kv_type)
          .field("batch", r.batch)
          .field("tokens_per_s", r.tokens / median)
          .field("tokens_per_s_min", r.tokens / r.seconds.back())
          .field("tokens_per_s_max", r.tokens / r.seconds.front())
          .field("limit_tokens_per_s", r.tokens / r.floor)
          .field("share_of_limit", r.floor / median)
          .field("bytes_a_step", r.bytes)
          .field("flops_a_step", r.flops)
          .field("gap_us", r.gap_us)
          .field("host_us", r.host_us)
          .end_object();
      std::cout << line << std::endl;
      return;
    }
    if (!headed_)
      std::printf("%-14s %6s %12s %19s %12s %6s %9s %11s %8s %8s\n", "test", "batch", "tokens/s", "min - max", "limit",
                  "share", "GB/step", "GFLOP/step", "gap us", "host us");
    headed_ = true;
    std::printf("%-14s %6d %12.1f %9.1f -%8.1f %12.1f %6.3f %9.3f %11.1f %8.1f %8.1f\n", r.test.c_str(), r.batch,
                r.tokens / median, r.tokens / r.seconds.back(), r.tokens / r.seconds.front(), r.tokens / r.floor,
                r.floor / median, r.bytes / 1e9, r.flops / 1e9, r.gap_us, r.host_us);
    std::fflush(stdout);
  }

private:
  const device_bench_options& o_;
  bool headed_ = false;
};

std::string at_depth(std::string test, std::int32_t depth) {
  return depth > 0 ? test + "@d" + std::to_string(depth) : test;
}

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
  const std::int32_t length = depth + tokens;
  if (auto r = rig.reserve({&length, 1}, 0, std::min(chunk, tokens)); !r) return r;
  printed_row row;
  row.test = at_depth("pp" + std::to_string(tokens), depth);
  row.tokens = double(tokens);
  for (std::int32_t i = -1; i < o.repeat; ++i) {
    rig.host_us = 0;
    const auto start = clock::now();
    for (std::int32_t done = 0; done < tokens; done += chunk)
      if (auto r = rig.prefill(depth + done, std::min(chunk, tokens - done)); !r) return r;
    if (i >= 0) row.seconds.push_back(since(start));
  }
  const std::int32_t steps = (tokens + chunk - 1) / chunk;
  row.host_us = rig.host_us / steps;
  if (o.profile)
    if (auto r = print_profile(rig, 1, [&] { return rig.prefill(depth, std::min(chunk, tokens)); }); !r) return r;
  const cost least = prefill_cost(rig, tokens, depth);
  row.floor = least.seconds(limits);
  row.bytes = least.bytes;
  row.flops = least.flops / steps;
  out.print(std::move(row));
  return {};
}

result<void> decode_row(device_rig& rig, const device_bench_options& o, std::int32_t batch, std::int32_t tokens,
                        std::int32_t depth, const kernels::cuda::device_limits& limits, printer& out) {
  const std::vector<std::int32_t> past(static_cast<std::size_t>(batch), depth);
  const std::vector<std::int32_t> length(past.size(), depth + tokens + 1);
  const std::int32_t shared =
      batch > 1 ? std::min(o.shared_prefix, depth) / kernels::kv_shape::block_tokens * kernels::kv_shape::block_tokens
                : 0;
  if (auto r = rig.reserve(length, shared, batch); !r) return r;
  printed_row row;
  row.test = at_depth("tg" + std::to_string(tokens), depth) + (shared > 0 ? "s" + std::to_string(shared) : "");
  row.batch = batch;
  row.tokens = double(tokens) * batch;
  for (std::int32_t i = -1; i < o.repeat; ++i) {
    rig.gaps.clear();
    rig.host_us = 0;
    const auto start = clock::now();
    if (auto r = rig.decode(past, tokens); !r) return r;
    if (i >= 0) row.seconds.push_back(since(start));
  }
  row.host_us = rig.host_us / tokens;
  const cost least = decode_cost(rig, batch, depth + tokens / 2.0, shared);
  row.floor = least.seconds(limits) * tokens;
  row.bytes = least.bytes;
  row.flops = least.flops;
  std::sort(rig.gaps.begin(), rig.gaps.end());
  if (!rig.gaps.empty()) row.gap_us = rig.gaps[rig.gaps.size() / 2];
  if (o.profile)
    if (auto r = print_profile(rig, tokens, [&] { return rig.decode(past, tokens); }); !r) return r;
  out.print(std::move(row));
  return {};
}

/// Of steps up to the largest that an engine takes unless it is told otherwise, or that is measured now.
result<void> tune_products(device_rig& rig, const device_bench_options& o) {
  const auto started = clock::now();
  std::int32_t rows = 2048;
  for (const std::int32_t one : o.prompt) rows = std::max(rows, one);
  for (const std::int32_t one : o.chunks) rows = std::max(rows, one);
  kernels::cuda::tuned_products tuned;
  const auto tune = [&](kernels::lane&, kernels::step_space* space, const kernels::step_ops& whole,
                        const kernels::step_ops& ends, std::int32_t blocks) -> result<void> {
    auto done = rig.lane().tune(*space, {whole, ends}, blocks);
    if (!done) return done.why();
    tuned = *std::move(done);
    return {};
  };
  if (auto steps = planned_steps::create(rig.model(), rig.lane(), {64, rows, rows / 8, 0, nullptr, tune},
                                         [](const auto&, auto) {});
      !steps)
    return steps.why();
  std::fprintf(stderr, "%zu products timed in %.2f s; %zu go another way than they would untimed; kept in %s\n",
               tuned.shapes, since(started), tuned.unusual, tuned.kept_in.empty() ? "no file" : tuned.kept_in.c_str());
  return {};
}

}  // namespace

result<void> bench_device(const device_bench_options& o) {
  const auto started = clock::now();
  auto rig = device_rig::create(o);
  if (!rig) return rig.why();
  std::cerr << "weights on the device after " << since(started) << " s\n";
  if (o.tune)
    if (auto r = tune_products(**rig, o); !r) return r;
  for (const std::string& name : o.workloads)
    if (auto r = bench_workload(**rig, o, name); !r) return r;
  if (!o.workloads.empty()) return {};
  auto limits = (*rig)->lane().measure_limits();
  if (!limits) return limits.why();
  std::cerr << "limits: reads " << limits->read_bytes_per_second / 1e12 << " TB/s, bf16 "
            << limits->bf16_flops_per_second / 1e12 << " TFLOP/s\n";
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
