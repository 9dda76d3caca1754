// What `troupe bench` found, one row a workload, and how it is printed: a table for people, a JSON object a line for
// programs. Knows no lane.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace troupe::cli {

struct bench_row {
  std::string test;
  std::int32_t batch = 1;
  std::int32_t threads = 1;
  std::vector<double> tokens_per_s;  ///< one a repetition, ascending
  double limit = 0;

  double median() const { return tokens_per_s[tokens_per_s.size() / 2]; }
};

/// Prints rows as they come.
class row_printer {
public:
  row_printer(bool json, std::string model, std::string isa)
      : json_(json), model_(std::move(model)), isa_(std::move(isa)) {}
  void print(const bench_row& row);

private:
  void print_json(const bench_row& row) const;

  bool json_, headed_ = false;
  std::string model_, isa_;
};

}  // namespace troupe::cli
