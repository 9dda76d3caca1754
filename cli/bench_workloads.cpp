// Lengths and arrivals are seeded, so that two runs do the same work.
#include "cli/bench_workloads.hpp"

#include <unistd.h>

#include <fstream>
#include <sstream>

#include "cli/workload_figures.hpp"

namespace troupe::cli {
namespace {

using actors::clock;

/// All sequences there at the start of an engine that is warm; output tokens a second.
result<void> offline(device_rig& rig, const device_bench_options& o, const std::string& name,
                     const std::vector<request_size>& sizes, std::int32_t chunk) {
  std::int64_t most = 0;
  double out = 0;
  for (const request_size& one : sizes) most = std::max<std::int64_t>(most, one.prompt + one.tokens), out += one.tokens;
  timeline t;
  auto steps = planned_steps::create(rig.model(), rig.lane(),
                                     {256, chunk, blocks_for(most + 16) * 256, 0, nullptr, warm_up}, t.listener());
  if (!steps) return steps.why();
  std::mt19937 random(2);
  const std::int32_t vocabulary = rig.network().shape().vocabulary;
  std::vector<std::vector<std::int32_t>> prompts;
  for (const request_size& one : sizes) prompts.push_back(random_prompt(one.prompt, vocabulary, random));
  (*steps)->take_figures();
  const auto start = clock::now();
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    t.add();
    (*steps)->submit(std::move(prompts[i]), sizes[i].tokens);
  }
  if (auto r = (*steps)->finish(); !r) return r;
  const double seconds = since(start);
  const auto f = (*steps)->take_figures();
  figure_row row(o, name, chunk);
  row.add("output_tokens_per_s", out / seconds, "%.0f output tokens/s");
  row.add("seconds", seconds, "in %.2f s");
  add_steps(row, f);
  row.print();
  return {};
}

std::vector<request_size> offline_sizes() {
  std::mt19937 random(1);
  std::vector<request_size> sizes(256);
  const auto draw = [&] { return 100 + static_cast<std::int32_t>(random() % 925); };
  for (request_size& one : sizes) one = {draw(), draw()};
  return sizes;
}

result<double> decode_rate(device_rig& rig, const std::vector<std::int32_t>& past, std::int32_t steps) {
  std::vector<std::int32_t> tokens = past;
  for (std::int32_t& one : tokens) one += steps + 1;
  if (auto r = rig.reserve(tokens, 0, static_cast<std::int32_t>(past.size())); !r) return r.why();
  std::vector<double> rates;
  for (int i = 0; i < 4; ++i) {
    const auto start = clock::now();
    if (auto r = rig.decode(past, steps); !r) return r.why();
    if (i > 0) rates.push_back(static_cast<double>(past.size()) * steps / since(start));
  }
  std::sort(rates.begin(), rates.end());
  return rates[1];
}

result<void> mixed(device_rig& rig, const device_bench_options& o) {
  std::vector<std::int32_t> unequal(16, 4096);
  unequal[7] = 65536;
  const auto slow = decode_rate(rig, unequal, 64);
  if (!slow) return slow.why();
  const auto even = decode_rate(rig, std::vector<std::int32_t>(16, (65536 + 15 * 4096) / 16), 64);
  if (!even) return even.why();
  rig.clear();
  figure_row row(o, "mixed", 0);
  row.add("unequal_tokens_per_s", *slow, "1 x 65,536 + 15 x 4,096 decode %.1f tokens/s,");
  row.add("even_tokens_per_s", *even, "16 x 7,936 %.1f:");
  row.add("ratio", *slow / *even, "%.3f");
  row.print();
  return {};
}

struct long_prompt_times {
  std::int32_t which = 0;
  double start_ms = 0, first_token_ms = 0;
};

/// Gaps between tokens of the decodes, before the prompt and beside it.
void print_beside(const device_bench_options& o, const mixture& how, const long_prompt_times& t,
                  std::vector<double>& alone, std::vector<double>& beside, const planned_steps::figures& f) {
  figure_row row(o, "long-prompt", how.chunk);
  row.add(how);
  row.add("start_ms", t.start_ms, "warm after %.0f ms,");
  row.add("prompt", t.which, "prompt %.0f:");
  row.add("alone_p50_ms", share(alone, 0.5), "alone p50 %.2f");
  row.add("alone_p99_ms", share(alone, 0.99), "p99 %.2f ms,");
  row.add("beside_p50_ms", share(beside, 0.5), "beside p50 %.2f");
  row.add("beside_p99_ms", share(beside, 0.99), "p99 %.2f,");
  row.add("beside_worst_ms", share(beside, 1), "worst %.2f ms:");
  row.add("ratio", share(beside, 0.99) / share(alone, 0.5), "%.2f;");
  row.add("first_token_ms", t.first_token_ms, "first token after %.0f ms");
  add_steps(row, f);
  row.print();
}

result<void> long_prompt(device_rig& rig, const device_bench_options& o, const mixture& how) {
  constexpr std::int32_t decodes = 32, prompt = 16384, context = 512, tokens = 4000;
  timeline t;
  auto prompts = second_queue(rig, how);
  if (!prompts) return prompts.why();
  const auto began = clock::now();
  const std::int32_t blocks = blocks_for(context + tokens + 16) * decodes + blocks_for(prompt + 64);
  auto steps = planned_steps::create(
      rig.model(), rig.lane(), {decodes + 1, how.chunk, blocks, how.growth, prompts->get(), warm_up}, t.listener());
  if (!steps) return steps.why();
  const double warmed = since(began);
  std::mt19937 random(3);
  const std::int32_t vocabulary = rig.network().shape().vocabulary;
  const auto submit = [&](std::int32_t length, std::int32_t count) {
    t.add();
    return (*steps)->submit(random_prompt(length, vocabulary, random), count);
  };
  const auto advance_until = [&](const auto& reached) -> result<void> {
    while (!reached())
      if (auto r = (*steps)->advance(); !r) return r;
    return {};
  };
  const auto decode_for = [&](std::size_t more) {
    return advance_until([&, n = t.tokens[0].size()] { return t.tokens[0].size() > n + more; });
  };
  for (std::int32_t i = 0; i < decodes; ++i) {  // one by one, so that none needs a queue of its own
    submit(context, tokens);
    if (auto r = decode_for(10); !r) return r;
  }
  // What is made or recorded when it is first used shows beside the first of them.
  for (std::int32_t which = 1; which <= 3; ++which) {
    const auto alone_from = clock::now();
    if (auto r = decode_for(100); !r) return r;
    auto alone = token_gaps(t, 0, decodes, alone_from);
    (*steps)->take_figures();
    const auto from = clock::now();
    const auto id = submit(prompt, 2);
    if (auto r = advance_until([&] { return !t.tokens[id - 1].empty(); }); !r) return r;
    const double ttft = ms(t.tokens[id - 1][0] - from);
    const auto f = (*steps)->take_figures();
    auto beside = token_gaps(t, 0, decodes, from);
    if (auto r = decode_for(20); !r) return r;
    print_beside(o, how, {which, 1e3 * warmed, ttft}, alone, beside, f);
  }
  for (std::int32_t i = 1; i <= decodes; ++i) (*steps)->end(static_cast<actors::generation_id>(i));
  return (*steps)->finish();
}

/// Seconds since this process started, to a hundredth: /proc/self/stat, field 22.
double process_age() {
  std::ifstream stat("/proc/self/stat"), uptime("/proc/uptime");
  std::string text;
  double up = 0, started = 0;
  std::getline(stat, text);
  uptime >> up;
  std::istringstream fields(text.substr(text.rfind(')') + 1));
  for (int field = 3; field <= 22 && fields >> text; ++field)
    if (field == 22) started = std::strtod(text.c_str(), nullptr) / static_cast<double>(sysconf(_SC_CLK_TCK));
  return up - started;
}

result<void> first_token(device_rig& rig, const device_bench_options& o) {
  timeline t;
  auto steps = planned_steps::create(rig.model(), rig.lane(), {64, 512, 8192}, t.listener());
  if (!steps) return steps.why();
  std::mt19937 random(6);
  t.add();
  (*steps)->submit(random_prompt(128, rig.network().shape().vocabulary, random), 1);
  if (auto r = (*steps)->finish(); !r) return r;
  figure_row row(o, "first-token", 0);
  row.add("seconds", process_age(), "%.2f s after the start of the process");
  row.print();
  return {};
}

}  // namespace

result<void> bench_workload(device_rig& rig, const device_bench_options& o, const std::string& name) {
  if (name == "mixed") return mixed(rig, o);
  if (name == "host-tier") return host_tier(rig, o);
  if (name == "first-token") return first_token(rig, o);
  const auto each_chunk = [&](std::int32_t usual, const auto& run) -> result<void> {
    for (const std::int32_t chunk : o.chunks.empty() ? std::vector<std::int32_t>{usual} : o.chunks)
      if (auto r = run(chunk); !r) return r;
    return {};
  };
  if (name == "offline")
    return each_chunk(2048, [&](std::int32_t chunk) { return offline(rig, o, name, offline_sizes(), chunk); });
  if (name == "offline-128")
    return each_chunk(2048, [&](std::int32_t chunk) {
      return offline(rig, o, name, std::vector<request_size>(1000, {128, 128}), chunk);
    });
  // Prompts beside decodes: each bound on a step's growth with each size of its largest chunk.
  const auto each_mixture = [&](double usual, const auto& run) -> result<void> {
    for (const std::int32_t queues : o.queues.empty() ? std::vector<std::int32_t>{0} : o.queues)
      for (const double growth : o.growths.empty() ? std::vector<double>{queues > 0 ? 0 : usual} : o.growths)
        if (auto r = each_chunk(2048, [&](std::int32_t chunk) { return run(mixture{chunk, growth, queues}); }); !r)
          return r;
    return rig.lane().divide(0);
  };
  if (name == "long-prompt") return each_mixture(1.4, [&](const mixture& how) { return long_prompt(rig, o, how); });
  if (name == "goodput") return each_mixture(4, [&](const mixture& how) { return goodput(rig, o, how); });
  return error{errc::invalid_argument, "There is no workload named '" + name + "'.", "workload"};
}

}  // namespace troupe::cli
