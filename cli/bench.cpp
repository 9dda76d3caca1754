// `troupe bench`: tokens a second of prefill and decode, each beside what this machine could do at most.
#include <algorithm>
#include <chrono>
#include <functional>
#include <iostream>
#include <string>
#include <vector>

#include "base/machine.hpp"
#include "cli/bench_engine.hpp"
#include "cli/bench_profile.hpp"
#include "cli/bench_rig.hpp"
#include "cli/bench_rows.hpp"
#include "cli/options.hpp"
#include "cli/report.hpp"
#include "models/catalogue/model_cache.hpp"

namespace troupe::cli {
namespace {

using clock = std::chrono::steady_clock;

/// What the rows of one thread count share.
struct setting {
  const bench_options& options;
  std::int32_t threads;
  kernels::machine_limits limits;
  bench_rig& rig;
  row_printer& out;
};

/// A workload: its name, the tokens and forward passes of one run of it.
struct workload {
  std::string test;
  std::int32_t batch = 1;
  double tokens = 0;
  double steps = 0;
  std::function<void()> run;
};

double seconds_of(const std::function<void()>& work) {
  const auto start = clock::now();
  work();
  return std::chrono::duration<double>(clock::now() - start).count();
}

void profile(const setting& s, const workload& w) {
  profiled_test fastest{w.test, s.rig.profiled(w.run), w.steps, static_cast<double>(s.rig.model().shape().layers)};
  if (w.batch > 1) fastest.name += " x" + std::to_string(w.batch);
  for (std::int32_t i = 1; i < s.options.repeat; ++i)
    if (auto sums = s.rig.profiled(w.run); sums.seconds() < fastest.sums.seconds()) fastest.sums = sums;
  print_profile(fastest, s.limits, s.options.json);
}

void measure(const setting& s, const workload& w) {
  bench_row row{w.test, w.batch, s.threads, {}, 0};
  row.limit = w.tokens / s.rig.profiled(w.run).floor().seconds(s.limits);  // warms pages, caches and scratch too
  for (std::int32_t i = 0; i < s.options.repeat; ++i) row.tokens_per_s.push_back(w.tokens / seconds_of(w.run));
  std::sort(row.tokens_per_s.begin(), row.tokens_per_s.end());
  s.out.print(row);
  if (s.options.profile) profile(s, w);
}

std::string at_depth(std::string test, std::int32_t depth) { return depth > 0 ? test + "@d" + std::to_string(depth) : test; }

result<void> prefill_row(const setting& s, std::int32_t tokens, std::int32_t depth) {
  const std::int32_t chunk = std::min(tokens, s.options.engine.max_batch_tokens);
  if (auto ready = s.rig.reserve(1, depth + tokens, chunk); !ready) return ready;
  measure(s, {at_depth("pp" + std::to_string(tokens), depth), 1, double(tokens), double((tokens + chunk - 1) / chunk), [&] {
                for (std::int32_t done = 0; done < tokens; done += chunk)
                  s.rig.prefill(depth + done, std::min(chunk, tokens - done), done + chunk >= tokens);
              }});
  return {};
}

result<void> decode_row(const setting& s, std::int32_t batch, std::int32_t tokens, std::int32_t depth) {
  if (auto ready = s.rig.reserve(batch, depth + tokens, batch); !ready) return ready;
  measure(s, {at_depth("tg" + std::to_string(tokens), depth), batch, double(tokens) * batch, double(tokens), [&] {
                for (std::int32_t i = 0; i < tokens; ++i) s.rig.decode(batch, depth + i);
              }});
  return {};
}

result<void> bench_threads(const bench_options& o, const std::string& path, std::int32_t threads) {
  kernels::cpu_lane_options lane{threads, kernels::best_isa(), true};
  if (!o.engine.isa.empty()) lane.which = *kernels::parse_isa(o.engine.isa);
  kernels::machine_limits limits;
  {
    kernels::thread_team team(threads);
    auto measured = kernels::measure_limits(team, lane.which);
    if (!measured) return measured.why();
    limits = *measured;
  }
  std::cerr << "limits with " << threads << " threads: reads " << limits.read_bytes_per_second / 1e9 << " GB/s, computes "
            << limits.int8_ops_per_second / 1e12 << " int8 and " << limits.float_ops_per_second / 1e12 << " float TOP/s\n";
  auto rig = bench_rig::create(path, lane);
  if (!rig) return rig.why();
  row_printer out(o.json, o.engine.model, std::string(to_string(lane.which)));
  const setting s{o, threads, limits, **rig, out};
  for (const std::int32_t depth : o.depth) {
    for (const std::int32_t tokens : o.prompt)
      if (tokens > 0)
        if (auto done = prefill_row(s, tokens, depth); !done) return done;
    for (const std::int32_t tokens : o.generate)
      for (const std::int32_t batch : o.batch)
        if (tokens > 0)
          if (auto done = decode_row(s, batch, tokens, depth); !done) return done;
  }
  return {};
}

bool all_in(const std::vector<std::int32_t>& values, std::int32_t least, std::int32_t most) {
  return std::all_of(values.begin(), values.end(), [&](std::int32_t v) { return v >= least && v <= most; });
}

}  // namespace

int bench(const bench_options& options) {
  if (!all_in(options.prompt, 0, 1 << 20) || !all_in(options.generate, 0, 1 << 20) || !all_in(options.depth, 0, 1 << 20) ||
      !all_in(options.batch, 1, 1024) || !all_in(options.threads, 1, 512))
    return report({errc::invalid_argument, "lengths go from 0 to 1048576, batches from 1 to 1024, threads from 1 to 512", ""});
  if (options.through_engine) return bench_engine(options);
  const auto path = models::model_cache().resolve(options.engine.model);
  if (!path) return report(path.why());
  std::vector<std::int32_t> teams = options.threads;
  if (teams.empty()) teams.push_back(base::read_cpu_limits().usable);
  for (const std::int32_t threads : teams)
    if (auto done = bench_threads(options, path->string(), threads); !done) return report(done.why());
  return 0;
}

}  // namespace troupe::cli
