// `troupe bench`: tokens a second of prefill and decode, each beside what this machine could do at most.
#include <algorithm>
#include <chrono>
#include <functional>
#include <iostream>
#include <numeric>
#include <string>
#include <vector>

#include "actors/engine.hpp"
#include "cli/bench_device.hpp"
#include "cli/bench_engine.hpp"
#include "cli/bench_peer.hpp"
#include "cli/bench_profile.hpp"
#include "cli/bench_rig.hpp"
#include "cli/bench_rows.hpp"
#include "cli/engine.hpp"
#include "cli/options.hpp"
#include "cli/report.hpp"
#include "kernels/cpu/lane_choice.hpp"
#include "models/catalogue/model_cache.hpp"

namespace troupe::cli {
namespace {

using clock = std::chrono::steady_clock;

/// What the rows of one thread count share.
struct setting {
  const bench_options& options;
  kernels::machine_limits limits;
  bench_rig& rig;
  row_printer& out;
};

double seconds_of(const std::function<void()>& work) {
  const auto start = clock::now();
  work();
  return std::chrono::duration<double>(clock::now() - start).count();
}

/// A run of the test, and how often it goes through the model.
struct workload {
  std::function<void()> run;
  double tokens = 0;
  double steps = 0;
  double kv_tokens = 0;  ///< that its sequences attend to in a step, on average
};

void profile(const setting& s, const bench_test& test, const workload& w) {
  profiled_test fastest{test.name(), s.rig.profiled(w.run), w.steps, static_cast<double>(s.rig.model().shape().layers)};
  if (test.batch > 1) fastest.name += " x" + std::to_string(test.batch);
  for (std::int32_t i = 1; i < s.options.repeat; ++i)
    if (auto sums = s.rig.profiled(w.run); sums.seconds() < fastest.sums.seconds()) fastest.sums = sums;
  print_profile(fastest, s.limits, s.options.json);
}

void measure(const setting& s, const bench_test& test, const workload& w) {
  const double read_before = s.rig.kv_bytes_read();
  const double least = s.rig.profiled(w.run).floor().seconds(s.limits);  // warms pages, caches and scratch too
  const double read = (s.rig.kv_bytes_read() - read_before) / w.steps;
  std::vector<double> speeds;
  for (std::int32_t i = 0; i < s.options.repeat; ++i) speeds.push_back(w.tokens / seconds_of(w.run));
  s.out.print({test, spread(std::move(speeds)), w.tokens / least, read, w.kv_tokens * s.rig.kv_token_bytes()});
  if (s.options.profile) profile(s, test, w);
}

std::int32_t chunk_of(const setting& s) {
  return actors::cpu_steps.or_asked(0, s.options.engine.max_batch_tokens).batch_tokens;
}

/// Tokens [past, past + count) of one sequence, in chunks as the engine takes them.
void prefill(const setting& s, std::int32_t sequence, std::int32_t past, std::int32_t count) {
  const std::int32_t chunk = chunk_of(s);
  for (std::int32_t done = 0; done < count; done += chunk)
    s.rig.prefill(sequence, past + done, std::min(chunk, count - done), done + chunk >= count);
}

result<void> measure(const setting& s, const bench_test& test) {
  const std::int32_t chunk = std::min(std::max(test.prompt, test.depth_of(0)), chunk_of(s));
  const std::int32_t tokens = test.prompt + test.generate;
  std::vector<std::int32_t> depths, lengths;
  for (std::int32_t i = 0; i < test.batch; ++i) {
    depths.push_back(test.depth_of(i));
    lengths.push_back(test.depth_of(i) + tokens);
  }
  if (auto ready = s.rig.reserve(lengths, test.shared, std::max(chunk, test.batch)); !ready) return ready;
  // Pages of KV that were never written would all be one page of zeros, in the nearest cache.
  for (std::int32_t i = 0; i < test.batch; ++i) {
    const std::int32_t there = i > 0 ? test.shared : 0;
    prefill(s, i, there, depths[static_cast<std::size_t>(i)] - there);
  }
  const double past = std::accumulate(depths.begin(), depths.end(), 0.0);
  if (test.prompt > 0) {
    const std::int32_t steps = (test.prompt + chunk - 1) / chunk;
    const double seen = depths[0] + (test.prompt / steps + test.prompt) / 2.0;
    measure(s, test, {[&] { prefill(s, 0, depths[0], test.prompt); }, double(test.prompt), double(steps), seen});
  } else {
    const auto decode = [&] {
      std::vector<std::int32_t> at = depths;
      for (std::int32_t i = 0; i < test.generate; ++i) {
        s.rig.decode(at);
        for (std::int32_t& position : at) ++position;
      }
    };
    const double seen = past + test.batch * (test.generate + 1) / 2.0;
    measure(s, test, {decode, double(test.generate) * test.batch, double(test.generate), seen});
  }
  return {};
}

result<void> bench_threads(const bench_options& o, const std::string& path, std::int32_t threads) {
  auto lane = kernels::choose_lane({threads, o.engine.isa, !o.engine.no_repack, o.engine.kv_type});
  if (!lane) return lane.why();
  if (o.engine.isa.empty()) lane->costs = copies_of(o.engine);
  kernels::machine_limits limits;
  {
    kernels::thread_team team(threads);
    auto measured = kernels::measure_limits(team, lane->which);
    if (!measured) return measured.why();
    limits = *measured;
  }
  std::cerr << "limits with " << threads << " threads: reads " << limits.read_bytes_per_second / 1e9
            << " GB/s, computes " << limits.int8_ops_per_second / 1e12 << " int8 and "
            << limits.float_ops_per_second / 1e12 << " float TOP/s\n";
  auto rig = bench_rig::create(path, *lane);
  if (!rig) return rig.why();
  row_printer out(o.json, o.engine.model, std::string(to_string(lane->which)), std::string(to_string(lane->kv)));
  const setting s{o, limits, **rig, out};
  for (const bench_test& test : tests_of(o, threads))
    if (auto done = measure(s, test); !done) return done;
  return {};
}

bool all_in(const std::vector<std::int32_t>& values, std::int32_t least, std::int32_t most) {
  return std::all_of(values.begin(), values.end(), [&](std::int32_t v) { return v >= least && v <= most; });
}

int bench_on_gpu(const bench_options& o) {
  if (o.through_engine || !o.peers.empty())
    return report({errc::invalid_argument, "--device cuda goes with neither --engine nor --peer", ""});
  if (o.tune && o.engine.deterministic)
    return report({errc::invalid_argument, "--tune goes not with --deterministic, whose products go one way", ""});
  device_bench_options device;
  device.shape = o.shape;
  device.type = o.type;
  if (!o.engine.kv_type.empty()) device.kv_type = o.engine.kv_type;
  device.deterministic = o.engine.deterministic;
  device.copies = copies_of(o.engine);
  device.tune = o.tune;
  device.prompt = o.prompt;
  device.generate = o.generate;
  device.depth = o.depth;
  device.batch = o.batch;
  device.repeat = o.repeat;
  device.workloads = o.workloads;
  device.chunks = o.chunks;
  device.growths = o.growths;
  device.queues = o.queues;
  device.rates = o.rates;
  device.profile = o.profile;
  device.json = o.json;
  device.shared_prefix = o.shared_prefix;
  if (o.shape.empty()) {
    const auto path = models::model_cache().resolve(o.engine.model);
    if (!path) return report(path.why());
    device.model = path->string();
  }
  const auto done = bench_device(device);
  return done ? 0 : report(done.why());
}

}  // namespace

int bench(const bench_options& options) {
  if (!all_in(options.prompt, 0, 1 << 20) || !all_in(options.generate, 0, 1 << 20) ||
      !all_in(options.depth, 0, 1 << 20) || !all_in(options.batch, 1, 1024) || !all_in(options.threads, 1, 512))
    return report(
        {errc::invalid_argument, "lengths go from 0 to 1048576, batches from 1 to 1024, threads from 1 to 512", ""});
  if ((options.shared_prefix > 0 || options.longest > 0) && (options.through_engine || !options.peers.empty()))
    return report({errc::invalid_argument, "--shared-prefix and --longest go with neither --engine nor --peer", ""});
  if (options.longest > 0 && options.device == "cuda")
    return report({errc::invalid_argument, "--longest goes with the CPU", ""});
  if (!options.peers.empty() && (options.through_engine || options.profile))
    return report({errc::invalid_argument, "--peer goes with neither --engine nor --profile", ""});
  if (options.device == "cuda") return bench_on_gpu(options);
  if (options.tune) return report({errc::invalid_argument, "--tune goes with --device cuda", ""});
  if (!options.shape.empty()) return report({errc::invalid_argument, "--shape goes with --device cuda", ""});
  if (!options.workloads.empty()) return report({errc::invalid_argument, "--workload goes with --device cuda", ""});
  if (options.through_engine) return bench_engine(options);
  const auto path = models::model_cache().resolve(options.engine.model);
  if (!path) return report(path.why());
  std::vector<std::int32_t> teams = options.threads;
  if (teams.empty()) teams.push_back(kernels::default_threads());
  if (!options.peers.empty()) return bench_against_peers(options, path->string(), teams);
  for (const std::int32_t threads : teams)
    if (auto done = bench_threads(options, path->string(), threads); !done) return report(done.why());
  return 0;
}

}  // namespace troupe::cli
