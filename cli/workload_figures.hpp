// What the workloads share: when tokens came, and how a row of figures is printed. Knows no workload.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <random>
#include <string>
#include <vector>

#include "base/json_writer.hpp"
#include "cli/device_rig.hpp"
#include "cli/planned_steps.hpp"

namespace troupe::cli {

inline double since(actors::clock::time_point start) {
  return std::chrono::duration<double>(actors::clock::now() - start).count();
}

struct request_size {
  std::int32_t prompt = 0;
  std::int32_t tokens = 0;
};

/// When each sequence was submitted and when each of its tokens came; index id - 1.
struct timeline {
  std::vector<actors::clock::time_point> submitted;
  std::vector<std::vector<actors::clock::time_point>> tokens;

  void add() {
    submitted.push_back(actors::clock::now());
    tokens.emplace_back();
  }
  planned_steps::listener listener() {
    return [this](const actors::step_token& token, actors::clock::time_point at) {
      tokens[token.generation - 1].push_back(at);
    };
  }
};

inline double share(std::vector<double>& sorted, double of) {
  if (sorted.empty()) return 0;
  return sorted[std::min(sorted.size() - 1, static_cast<std::size_t>(of * static_cast<double>(sorted.size())))];
}

inline double ms(actors::clock::duration d) { return std::chrono::duration<double, std::milli>(d).count(); }

/// Milliseconds between tokens of sequences [first, last), those that came after `from`; sorted.
inline std::vector<double> token_gaps(const timeline& t, std::size_t first, std::size_t last,
                                      actors::clock::time_point from) {
  std::vector<double> gaps;
  for (std::size_t i = first; i < last; ++i)
    for (std::size_t k = 1; k < t.tokens[i].size(); ++k)
      if (t.tokens[i][k] > from) gaps.push_back(ms(t.tokens[i][k] - t.tokens[i][k - 1]));
  std::sort(gaps.begin(), gaps.end());
  return gaps;
}

inline std::vector<std::int32_t> random_prompt(std::int32_t length, std::int32_t vocabulary, std::mt19937& random) {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(length));
  for (auto& id : ids) id = static_cast<std::int32_t>(random() % static_cast<std::uint32_t>(vocabulary));
  return ids;
}

inline std::int32_t blocks_for(std::int64_t tokens) { return static_cast<std::int32_t>((tokens + 15) / 16); }

/// How prompts get on beside decodes.
struct mixture {
  std::int32_t chunk = 2048;
  double growth = 0;
  std::int32_t queues = 0;  ///< as in device_bench_options
};

/// Named figures, in order: a table's line for people, an object for programs.
class figure_row {
public:
  figure_row(const device_bench_options& o, const std::string& workload, std::int32_t chunk) : json_(o.json) {
    text_ = workload + " " + (o.model.empty() ? o.shape + " " + o.type : o.model) +
            (chunk > 0 ? ", " + std::to_string(chunk) + " rows" : "") + ":";
    writer_.begin_object()
        .field("workload", workload)
        .field("model", o.model.empty() ? o.shape : o.model)
        .field("type", o.type)
        .field("chunk", chunk);
  }
  void add(const mixture& how) {
    add("queues", how.queues,
        how.queues == 0   ? "one queue,"
        : how.queues == 1 ? "two queues,"
                          : "%.0f multiprocessors for prompts,");
    add("growth", how.growth, how.growth > 0 ? "growth %.2f;" : how.queues == 0 ? "no bound;" : "none mixed;");
  }
  void add(const char* name, double value, const char* shown) {
    char text[64];
    std::snprintf(text, sizeof text, shown, value);
    text_ += std::string(" ") + text;
    writer_.field(name, value);
  }
  void print() {
    writer_.end_object();
    std::cout << (json_ ? line_ : text_) << std::endl;
  }

private:
  bool json_;
  std::string text_, line_;
  base::json_writer writer_{line_};
};

inline void add_steps(figure_row& row, const planned_steps::figures& f) {
  const auto each = [](double all, std::int64_t n) { return n > 0 ? all / static_cast<double>(n) : 0.0; };
  const std::int64_t decodes = f.steps - f.mixed - f.prefills;
  row.add("decode_steps", static_cast<double>(decodes), "| %.0f decode steps");
  row.add("decode_ms", each(f.decode_ms, decodes), "of %.2f ms,");
  row.add("mixed_steps", static_cast<double>(f.mixed), "%.0f mixed");
  row.add("mixed_ms", each(f.mixed_ms, f.mixed), "of %.2f,");
  row.add("prefill_steps", static_cast<double>(f.prefills), "%.0f prefill");
  row.add("prefill_ms", each(f.prefill_ms, f.prefills), "of %.2f;");
  row.add("host_us", each(f.host_us, f.steps), "host %.0f us a step");
}

/// One queue, or two on a device that is divided or not. The second must go before the device is whole again.
inline result<std::unique_ptr<kernels::lane>> second_queue(device_rig& rig, const mixture& how) {
  if (auto r = rig.lane().divide(how.queues > 1 ? how.queues : 0); !r) return r.why();
  return how.queues > 0 ? rig.lane().make_second_queue() : std::unique_ptr<kernels::lane>();
}

/// As an engine does before its first step.
inline result<void> warm_up(kernels::lane& of, kernels::step_space* space, const kernels::step_ops& whole,
                            const kernels::step_ops& ends, std::int32_t blocks) {
  return static_cast<kernels::cuda::cuda_lane&>(of).warm_up(*space, {whole, ends}, blocks);
}

/// First tokens of prompts whose K and V are in host memory, and decodes beside copies (bench_host_tier.cpp).
result<void> host_tier(device_rig& rig, const device_bench_options& o);

/// The rates in order until one misses a limit (bench_goodput.cpp).
result<void> goodput(device_rig& rig, const device_bench_options& o, const mixture& how);

}  // namespace troupe::cli
