// Requests that come at random, as chats do, and the rate up to which their limits are kept. Seeded: two runs ask the
// same.
#include <cmath>

#include "cli/workload_figures.hpp"

namespace troupe::cli {
namespace {

using actors::clock;

/// Log-normal with the medians and spreads of shared chat logs: prompts of mean 210, answers of mean 210, to 1,024.
std::vector<request_size> chat_sizes(std::size_t count, std::mt19937& random) {
  std::lognormal_distribution<double> prompt(std::log(110.0), 1.2), answer(std::log(150.0), 0.9);
  const auto whole = [](double v) { return static_cast<std::int32_t>(std::clamp(v, 4.0, 1024.0)); };
  std::vector<request_size> sizes(count);
  for (request_size& one : sizes) {
    one.prompt = whole(prompt(random));
    one.tokens = whole(answer(random));
  }
  return sizes;
}

/// Requests for six seconds at `rate` a second. True: both limits were kept.
result<bool> offered(planned_steps& steps, timeline& t, const device_bench_options& o, std::int32_t vocabulary,
                     const mixture& how, double rate) {
  constexpr double ttft_limit = 500, gap_limit = 30, seconds = 6;
  std::mt19937 random(4);
  const auto sizes = chat_sizes(static_cast<std::size_t>(rate * seconds), random);
  std::vector<std::vector<std::int32_t>> prompts;
  for (const request_size& one : sizes) prompts.push_back(random_prompt(one.prompt, vocabulary, random));
  std::exponential_distribution<double> pause(rate);
  steps.take_figures();
  const std::size_t first = t.submitted.size();
  const auto start = clock::now();
  auto next = start;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    next += std::chrono::duration_cast<clock::duration>(std::chrono::duration<double>(pause(random)));
    while (clock::now() < next)
      if (auto r = steps.advance(next); !r) return r.why();
    t.add();
    t.submitted.back() = next;  // a request that waits for this thread waits
    steps.submit(std::move(prompts[i]), sizes[i].tokens);
  }
  if (auto r = steps.finish(); !r) return r.why();
  const double took = since(start);
  std::vector<double> ttft;
  double tokens = 0;
  for (std::size_t i = first; i < t.tokens.size(); ++i) {
    ttft.push_back(ms(t.tokens[i].front() - t.submitted[i]));
    tokens += static_cast<double>(t.tokens[i].size());
  }
  std::sort(ttft.begin(), ttft.end());
  auto gaps = token_gaps(t, first, t.tokens.size(), start);
  const auto f = steps.take_figures();
  const bool kept = share(ttft, 0.99) <= ttft_limit && share(gaps, 0.99) <= gap_limit;
  figure_row row(o, "goodput", how.chunk);
  row.add(how);
  row.add("rate", rate, "%.0f requests/s,");
  row.add("output_tokens_per_s", tokens / took, "%.0f tokens/s;");
  row.add("ttft_p50_ms", share(ttft, 0.5), "TTFT p50 %.0f");
  row.add("ttft_p99_ms", share(ttft, 0.99), "p99 %.0f ms,");
  row.add("itl_p50_ms", share(gaps, 0.5), "ITL p50 %.1f");
  row.add("itl_p99_ms", share(gaps, 0.99), "p99 %.1f ms");
  row.add("kept", kept ? 1 : 0, kept ? "kept %.0f" : "missed %.0f");
  add_steps(row, f);
  row.print();
  return kept;
}

}  // namespace

result<void> goodput(device_rig& rig, const device_bench_options& o, const mixture& how) {
  timeline t;
  auto prompts = second_queue(rig, how);
  if (!prompts) return prompts.why();
  auto steps = planned_steps::create(rig.model(), rig.lane(),
                                     {256, how.chunk, blocks_for(2064) * 256, how.growth, prompts->get(), warm_up},
                                     t.listener());
  if (!steps) return steps.why();
  const std::int32_t vocabulary = rig.network().shape().vocabulary;
  std::mt19937 random(5);
  // Every size of batch once: graphs are recorded here, not while it counts.
  for (std::int32_t i = 0; i < 256; ++i) {
    t.add();
    (*steps)->submit(random_prompt(8, vocabulary, random), 2 + i / 2);
  }
  if (auto r = (*steps)->finish(); !r) return r;
  const std::vector<double> rates = o.rates.empty() ? std::vector<double>{20, 25, 30, 35, 40, 45, 50} : o.rates;
  for (const double rate : rates) {
    const auto kept = offered(**steps, t, o, vocabulary, how, rate);
    if (!kept) return kept.why();
    if (!*kept) break;
  }
  return {};
}

}  // namespace troupe::cli
