// The table of `troupe bench`.
#include "cli/bench_rows.hpp"

#include <cstdio>
#include <iostream>

#include "base/json_writer.hpp"

namespace troupe::cli {

void row_printer::print(const bench_row& r) {
  if (json_) return print_json(r);
  if (!headed_)
    std::printf("%-16s %6s %8s %12s %19s %12s %6s\n", "test", "batch", "threads", "tokens/s", "min - max", "limit",
                "share");
  headed_ = true;
  std::printf("%-16s %6d %8d %12.1f %9.1f -%8.1f %12.1f %6.2f\n", r.test.c_str(), r.batch, r.threads, r.median(),
              r.tokens_per_s.front(), r.tokens_per_s.back(), r.limit, r.median() / r.limit);
  std::fflush(stdout);
}

void row_printer::print_json(const bench_row& r) const {
  std::string line;
  base::json_writer(line)
      .begin_object()
      .field("test", r.test)
      .field("model", model_)
      .field("batch", r.batch)
      .field("threads", r.threads)
      .field("device", "cpu")
      .field("isa", isa_)
      .field("tokens_per_s", r.median())
      .field("tokens_per_s_min", r.tokens_per_s.front())
      .field("tokens_per_s_max", r.tokens_per_s.back())
      .field("repeat", r.tokens_per_s.size())
      .field("limit_tokens_per_s", r.limit)
      .field("share_of_limit", r.median() / r.limit)
      .end_object();
  std::cout << line << std::endl;
}

}  // namespace troupe::cli
