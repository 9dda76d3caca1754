// The list of workloads and the table of `troupe bench`.
#include "cli/bench_rows.hpp"

#include <algorithm>
#include <cstdio>
#include <iostream>

#include "base/json_writer.hpp"

namespace troupe::cli {

std::string bench_test::name() const {
  const std::string what = prompt > 0 ? "pp" + std::to_string(prompt) : "tg" + std::to_string(generate);
  if (depth == 0 && longest == 0) return what;
  return what + "@d" + std::to_string(depth) + (shared > 0 ? "s" + std::to_string(shared) : "") +
         (longest > depth ? "l" + std::to_string(longest) : "");
}

std::vector<bench_test> tests_of(const bench_options& o, std::int32_t threads) {
  std::vector<bench_test> tests;
  for (const std::int32_t depth : o.depth) {
    for (const std::int32_t tokens : o.prompt)
      if (tokens > 0) tests.push_back({tokens, 0, depth, 1, threads});
    for (const std::int32_t tokens : o.generate)
      for (const std::int32_t batch : o.batch)
        if (tokens > 0)
          tests.push_back({0, tokens, depth, batch, threads, batch > 1 ? std::min(o.shared_prefix, depth) / 16 * 16 : 0,
                           o.longest > depth ? o.longest : 0});
  }
  return tests;
}

spread::spread(std::vector<double> from) : values(std::move(from)) { std::sort(values.begin(), values.end()); }

void row_printer::print(const bench_row& r) {
  if (json_) return print_json(r);
  if (!headed_)
    std::printf("%-16s %6s %8s %12s %19s %12s %6s\n", "test", "batch", "threads", "tokens/s", "min - max", "limit",
                "share");
  headed_ = true;
  std::printf("%-16s %6d %8d %12.1f %9.1f -%8.1f %12.1f %6.2f\n", r.test.name().c_str(), r.test.batch, r.test.threads,
              r.tokens_per_s.median(), r.tokens_per_s.least(), r.tokens_per_s.most(), r.limit,
              r.tokens_per_s.median() / r.limit);
  if (r.test.shared > 0)
    std::printf("%-16s reads %.1f MB of K and V a step, where its sequences hold %.1f MB each for itself\n", "",
                r.kv_bytes / 1e6, r.kv_bytes_held / 1e6);
  std::fflush(stdout);
}

void row_printer::print_json(const bench_row& r) const {
  std::string line;
  base::json_writer(line)
      .begin_object()
      .field("test", r.test.name())
      .field("model", model_)
      .field("batch", r.test.batch)
      .field("threads", r.test.threads)
      .field("device", "cpu")
      .field("isa", isa_)
      .field("kv_type", kv_type_)
      .field("tokens_per_s", r.tokens_per_s.median())
      .field("tokens_per_s_min", r.tokens_per_s.least())
      .field("tokens_per_s_max", r.tokens_per_s.most())
      .field("repeat", r.tokens_per_s.values.size())
      .field("limit_tokens_per_s", r.limit)
      .field("share_of_limit", r.tokens_per_s.median() / r.limit)
      .field("kv_bytes_a_step", r.kv_bytes)
      .field("kv_bytes_held", r.kv_bytes_held)
      .end_object();
  std::cout << line << std::endl;
}

}  // namespace troupe::cli
