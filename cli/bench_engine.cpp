// Generations through the whole engine: what the actors cost beside the bare steps of `troupe bench`.
#include "cli/bench_engine.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <random>
#include <sstream>
#include <string_view>
#include <vector>

#include "actors/engine.hpp"
#include "base/json_writer.hpp"
#include "cli/engine.hpp"
#include "cli/report.hpp"

namespace troupe::cli {
namespace {

using clock = std::chrono::steady_clock;

/// The sum over all label sets of one metric of the engine's own page.
double metric(const std::string& page, std::string_view name) {
  double sum = 0;
  std::istringstream lines(page);
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with(name) && line.size() > name.size() && (line[name.size()] == ' ' || line[name.size()] == '{'))
      sum += std::strtod(line.c_str() + line.rfind(' '), nullptr);
  return sum;
}

struct sample {
  double tokens_per_s = 0;
  double messages_per_token = 0;
  double step_gap_us = 0;  ///< mean time from the end of a step to the start of the next
};

/// Counters of the page before a run, taken from those after it.
class page_difference {
public:
  explicit page_difference(service& from) : from_(from), before_(from.metrics_text()) {}
  void end() { after_ = from_.metrics_text(); }
  double of(std::string_view name) const { return metric(after_, name) - metric(before_, name); }

private:
  service& from_;
  std::string before_, after_;
};

token_prompt random_prompt(const model& m, std::int32_t length, unsigned seed) {
  std::mt19937 random(seed);
  token_prompt ids(static_cast<std::size_t>(length));
  for (auto& id : ids) id = static_cast<std::int32_t>(random() % static_cast<std::uint32_t>(m.card().vocabulary));
  return ids;
}

/// `batch` generations of `tokens` tokens at once. The clock runs from the last first token to the first end, while
/// all of them decode, so that prefill and the tail do not count.
sample run_once(engine& e, std::int32_t batch, std::int32_t prompt, std::int32_t tokens) {
  ask_options ask;
  ask.how.temperature = 0;
  ask.max_tokens = tokens;
  ask.ignore_eos = true;
  page_difference page(e.runtime->as_service());
  std::vector<generation> all;
  const auto submitted = clock::now();
  for (std::int32_t i = 0; i < batch; ++i)
    all.push_back(e.model.complete(random_prompt(e.model, prompt, static_cast<unsigned>(i)), ask));
  double last_first = 0, last_end = 0;
  for (generation& one : all)
    for (const event& ev : one)
      if (ev.what == event::kind::done) {
        last_first = std::max(last_first, ev.timing.first_token_ms);
        last_end = std::max(last_end, ev.timing.total_ms);
      }
  const double wall_ms = std::chrono::duration<double, std::milli>(clock::now() - submitted).count();
  page.end();
  sample s;
  s.tokens_per_s = batch * (tokens - 1) / (std::min(wall_ms, last_end) - last_first) * 1000;
  s.messages_per_token = page.of("troupe_actor_messages_total") / (double(batch) * tokens);
  s.step_gap_us =
      page.of("troupe_step_gap_seconds_sum") / std::max(page.of("troupe_step_gap_seconds_count"), 1.0) * 1e6;
  return s;
}

void print(const bench_options& o, std::int32_t batch, std::int32_t tokens, std::vector<sample> runs) {
  std::sort(runs.begin(), runs.end(), [](const sample& a, const sample& b) { return a.tokens_per_s < b.tokens_per_s; });
  const sample& median = runs[runs.size() / 2];
  const std::string test = "engine-tg" + std::to_string(tokens);
  if (!o.json) {
    std::printf("%-16s %6d %12.1f %9.1f -%8.1f %18.3f %12.1f\n", test.c_str(), batch, median.tokens_per_s,
                runs.front().tokens_per_s, runs.back().tokens_per_s, median.messages_per_token, median.step_gap_us);
    std::fflush(stdout);
    return;
  }
  std::string line;
  base::json_writer(line)
      .begin_object()
      .field("test", test)
      .field("model", o.engine.model)
      .field("batch", batch)
      .field("device", "cpu")
      .field("tokens_per_s", median.tokens_per_s)
      .field("tokens_per_s_min", runs.front().tokens_per_s)
      .field("tokens_per_s_max", runs.back().tokens_per_s)
      .field("repeat", runs.size())
      .field("messages_per_token", median.messages_per_token)
      .field("step_gap_us", median.step_gap_us)
      .end_object();
  std::cout << line << std::endl;
}

}  // namespace

int bench_engine(const bench_options& o) {
  engine_options options = o.engine;
  options.max_sequences =
      std::max({options.max_sequences, actors::cpu_steps.sequences, *std::max_element(o.batch.begin(), o.batch.end())});
  if (!o.threads.empty()) options.threads = o.threads.front();
  auto e = start_engine(options);
  if (!e) return report(e.why());
  if (!o.json)
    std::printf("%-16s %6s %12s %19s %18s %12s\n", "test", "batch", "tokens/s", "min - max", "messages/token",
                "step gap us");
  constexpr std::int32_t prompt = 16;
  try {
    for (const std::int32_t tokens : o.generate)
      for (const std::int32_t batch : o.batch) {
        if (tokens < 2) continue;
        run_once(*e, batch, prompt, tokens);
        std::vector<sample> runs;
        for (std::int32_t i = 0; i < o.repeat; ++i) runs.push_back(run_once(*e, batch, prompt, tokens));
        print(o, batch, tokens, std::move(runs));
      }
  } catch (const failure& wrong) {
    return report(wrong.why());
  }
  return 0;
}

}  // namespace troupe::cli
