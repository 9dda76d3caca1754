// `troupe bench`: tokens a second of prefill and decode, each beside what this machine could do at most.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

#include "base/json_writer.hpp"
#include "base/machine.hpp"
#include "cli/bench_engine.hpp"
#include "cli/bench_rig.hpp"
#include "cli/options.hpp"
#include "cli/report.hpp"
#include "models/catalogue/model_cache.hpp"

namespace troupe::cli {
namespace {

using clock = std::chrono::steady_clock;

double since(clock::time_point start) { return std::chrono::duration<double>(clock::now() - start).count(); }

struct row {
  std::string test;
  std::int32_t batch = 1;
  std::int32_t threads = 1;
  std::vector<double> tokens_per_s;  ///< one a repetition, sorted
  double limit = 0;

  double median() const { return tokens_per_s[tokens_per_s.size() / 2]; }
};

/// Prints rows as they come: a table for people, a JSON object a line for programs.
class printer {
public:
  printer(bool json, std::string model, std::string isa) : json_(json), model_(std::move(model)), isa_(std::move(isa)) {}

  void print(const row& r) {
    if (json_) return print_json(r);
    if (!headed_) std::printf("%-16s %6s %8s %12s %19s %12s %6s\n", "test", "batch", "threads", "tokens/s", "min - max", "limit", "share");
    headed_ = true;
    std::printf("%-16s %6d %8d %12.1f %9.1f -%8.1f %12.1f %6.2f\n", r.test.c_str(), r.batch, r.threads, r.median(), r.tokens_per_s.front(),
                r.tokens_per_s.back(), r.limit, r.median() / r.limit);
    std::fflush(stdout);
  }

private:
  void print_json(const row& r) {
    std::string line;
    base::json_writer(line).begin_object().field("test", r.test).field("model", model_).field("batch", r.batch).field("threads", r.threads)
        .field("device", "cpu").field("isa", isa_).field("tokens_per_s", r.median()).field("tokens_per_s_min", r.tokens_per_s.front())
        .field("tokens_per_s_max", r.tokens_per_s.back()).field("repeat", r.tokens_per_s.size()).field("limit_tokens_per_s", r.limit)
        .field("share_of_limit", r.median() / r.limit).end_object();
    std::cout << line << std::endl;
  }

  bool json_, headed_ = false;
  std::string model_, isa_;
};

template <class Run>
std::vector<double> repeat(std::int32_t times, double tokens, const Run& run) {
  run();  // warm: pages, caches, scratch
  std::vector<double> rates;
  for (std::int32_t i = 0; i < times; ++i) {
    const auto start = clock::now();
    run();
    rates.push_back(tokens / since(start));
  }
  std::sort(rates.begin(), rates.end());
  return rates;
}

std::string at_depth(std::string test, std::int32_t depth) { return depth > 0 ? test + "@d" + std::to_string(depth) : test; }

result<void> prefill_row(bench_rig& rig, const bench_options& o, std::int32_t threads, std::int32_t tokens, std::int32_t depth,
                         const kernels::machine_limits& limits, printer& out) {
  const std::int32_t chunk = std::min(tokens, o.engine.max_batch_tokens);
  if (auto ready = rig.reserve(1, depth + tokens, chunk); !ready) return ready;
  row r{at_depth("pp" + std::to_string(tokens), depth), 1, threads, {}, 0};
  r.tokens_per_s = repeat(o.repeat, tokens, [&] {
    for (std::int32_t done = 0; done < tokens; done += chunk)
      rig.prefill(depth + done, std::min(chunk, tokens - done), done + chunk >= tokens);
  });
  r.limit = tokens / rig.prefill_cost(tokens).seconds(limits);
  out.print(r);
  return {};
}

result<void> decode_row(bench_rig& rig, const bench_options& o, std::int32_t threads, std::int32_t batch, std::int32_t tokens,
                        std::int32_t depth, const kernels::machine_limits& limits, printer& out) {
  if (auto ready = rig.reserve(batch, depth + tokens, batch); !ready) return ready;
  row r{at_depth("tg" + std::to_string(tokens), depth), batch, threads, {}, 0};
  r.tokens_per_s = repeat(o.repeat, double(tokens) * batch, [&] {
    for (std::int32_t i = 0; i < tokens; ++i) rig.decode(batch, depth + i);
  });
  r.limit = batch / rig.decode_cost(batch, depth + tokens / 2).seconds(limits);
  out.print(r);
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
            << limits.int8_ops_per_second / 1e12 << " int8 TOP/s\n";
  auto rig = bench_rig::create(path, lane);
  if (!rig) return rig.why();
  printer out(o.json, o.engine.model, std::string(to_string(lane.which)));
  for (const std::int32_t depth : o.depth) {
    for (const std::int32_t tokens : o.prompt)
      if (tokens > 0)
        if (auto done = prefill_row(**rig, o, threads, tokens, depth, limits, out); !done) return done;
    for (const std::int32_t tokens : o.generate)
      for (const std::int32_t batch : o.batch)
        if (tokens > 0)
          if (auto done = decode_row(**rig, o, threads, batch, tokens, depth, limits, out); !done) return done;
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
