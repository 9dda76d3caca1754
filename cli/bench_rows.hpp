// What `troupe bench` measures, what it found, and how that is printed: a table for people, a JSON object a line for
// programs. Knows no lane.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/options.hpp"

namespace troupe::cli {

/// One workload: a prompt of one sequence, or tokens of `batch` sequences that decode together.
struct bench_test {
  std::int32_t prompt = 0;  ///< one of prompt and generate is 0
  std::int32_t generate = 0;
  std::int32_t depth = 0;  ///< tokens already in the context
  std::int32_t batch = 1;
  std::int32_t threads = 1;
  std::int32_t shared = 0;   ///< leading tokens of the depth whose KV all sequences share
  std::int32_t longest = 0;  ///< depth of the first sequence, if it is more than the others'

  std::string name() const;  ///< "pp512", "tg128@d4096", "tg128@d4096s2048", "tg128@d1024l16384"
  std::int32_t depth_of(std::int32_t sequence) const { return sequence == 0 && longest > depth ? longest : depth; }
};

/// Every workload that the options name, in the order in which they are run on a team of `threads`.
std::vector<bench_test> tests_of(const bench_options& options, std::int32_t threads);

/// At least one number, ascending. The median is the upper of two in the middle.
struct spread {
  std::vector<double> values;

  explicit spread(std::vector<double> from);
  double median() const { return values[values.size() / 2]; }
  double least() const { return values.front(); }
  double most() const { return values.back(); }
};

struct bench_row {
  bench_test test;
  spread tokens_per_s;  ///< one a repetition
  double limit = 0;
  double kv_bytes = 0;       ///< of K and V, read in a step
  double kv_bytes_held = 0;  ///< that the sequences attend to in a step, each for itself
};

/// Prints rows as they come.
class row_printer {
public:
  row_printer(bool json, std::string model, std::string isa, std::string kv_type)
      : json_(json), model_(std::move(model)), isa_(std::move(isa)), kv_type_(std::move(kv_type)) {}
  void print(const bench_row& row);

private:
  void print_json(const bench_row& row) const;

  bool json_, headed_ = false;
  std::string model_, isa_, kv_type_;
};

}  // namespace troupe::cli
