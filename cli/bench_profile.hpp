// `troupe bench --profile`: where the time of a step goes, op by op, beside what the machine could do.
#pragma once

#include <string>

#include "kernels/cpu/profiling_lane.hpp"

namespace troupe::cli {

/// One repetition of a test.
struct profiled_test {
  std::string name;
  kernels::step_profile sums;
  double steps = 1;   ///< forward passes in it
  double layers = 1;  ///< of the model
};

/// A row an op: calls, time and barriers a step, share of the step, bytes, operations, rates, share of the limit.
void print_profile(const profiled_test& test, const kernels::machine_limits& limits, bool json);

}  // namespace troupe::cli
