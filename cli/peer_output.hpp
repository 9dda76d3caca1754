// Reads what benchmark programs print. Knows how `troupe bench --json`, llama-bench (of llama.cpp and of ik_llama.cpp)
// and llama-batched-bench write their figures; runs nothing.
#pragma once

#include <troupe/result.hpp>

#include "cli/bench_rows.hpp"
#include "cli/child_process.hpp"

namespace troupe::cli {

/// A figure of one run.
struct measured {
  double tokens_per_s = 0;
  double share_of_limit = 0;  ///< of our own runs only
};

/// Each: internal if the figure is missing, is no positive number, or the output is not what the program should print.
result<measured> read_troupe_bench(const child_output& from, const bench_test& test);
/// llama-bench -o json: the median of its samples.
result<measured> read_llama_bench(const child_output& from, const bench_test& test);
/// llama-batched-bench: the column "S_TG t/s" of its table, which one peer writes to stdout and another to stderr.
result<measured> read_batched_bench(const child_output& from, const bench_test& test);

}  // namespace troupe::cli
