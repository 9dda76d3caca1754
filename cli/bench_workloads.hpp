// Whole workloads of `troupe bench --device cuda`: many sequences through the planner, not steps of one size.
//
// offline      256 sequences of 100 to 1,024 tokens in and out, all there at the start
// offline-128  1,000 sequences of 128 tokens in and out, 256 at once
// mixed        decode of 1 x 65,536 beside 15 x 4,096 tokens of context, over 16 x 7,936
// long-prompt  gaps between tokens of 32 decodes while a prompt of 16,384 prefills, over those without it
// goodput      requests that come at random (Poisson) with log-normal lengths
// host-tier    first tokens of prompts of 4,096 and 16,384 whose K and V come back from host memory; decodes beside
// such copies first-token  from the start of the process to the first token of a prompt of 128
#pragma once

#include <string>

#include "cli/bench_device.hpp"

namespace troupe::cli {

class device_rig;

/// Prints a row for each chunk size or rate. invalid_argument: no such name.
result<void> bench_workload(device_rig& rig, const device_bench_options& options, const std::string& name);

}  // namespace troupe::cli
