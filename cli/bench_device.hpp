// `troupe bench --device cuda`: steps of a model on a GPU, each beside the device's limits. Knows no actor.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <troupe/result.hpp>

#include "memory/copy_folder.hpp"

namespace troupe::cli {

struct device_bench_options {
  std::string model;  ///< path of a file; "": random weights of `shape`
  std::string shape = "llama-8b";
  std::string type = "bf16";     ///< of random weights: bf16, f16, fp8, q8_0, q4_0, q4_1
  std::string head_type = "";    ///< of the output head; "": as `type`, but bf16 for fp8
  std::string kv_type = "bf16";  ///< as make_cuda_lane takes it
  bool deterministic = false;
  memory::copy_folder copies = {};  ///< where timed products are kept
  bool tune = false;                ///< time them first
  std::vector<std::int32_t> prompt = {512};
  std::vector<std::int32_t> generate = {128};
  std::vector<std::int32_t> depth = {0};
  std::vector<std::int32_t> batch = {1};
  std::int32_t repeat = 5;
  /// Of bench_workloads.hpp; with any, the steps of fixed sizes are left out.
  std::vector<std::string> workloads = {};
  std::vector<std::int32_t> chunks = {};  ///< rows of a workload's largest step; empty: what suits it
  std::vector<double> growths = {};       ///< of long-prompt and goodput: planner_options::most_growth
  /// Of the same: one, 0; two that share the device, 1; two, that of prompts with so many multiprocessors.
  std::vector<std::int32_t> queues = {};
  std::vector<double> rates = {};  ///< of goodput: requests a second
  bool profile = false;            ///< the time of each op as well
  bool json = false;
  std::int32_t shared_prefix = 0;  ///< tokens of the depth whose KV all sequences of a batch share
};

/// Prints rows to stdout as they come.
result<void> bench_device(const device_bench_options& options);

}  // namespace troupe::cli
