// From what a person or a program asks of the CPU to a lane's options. The one place that knows the defaults.
#pragma once

#include <cstdint>
#include <string>

#include <troupe/result.hpp>

#include "kernels/cpu/cpu_lane.hpp"

namespace troupe::kernels {

struct lane_wish {
  std::int32_t threads = 0;  ///< 0: default_threads()
  std::string isa;  ///< "": the best that may be executed here, or for products what has been measured to be faster
  bool repack = true;
  std::string kv_type;              ///< "": i16
  memory::copy_folder copies = {};  ///< default: repacked weights are not kept, what products cost is not measured
  std::string weight_type = {};     ///< of layers, on a GPU: bf16, f16 or fp8; "": as the file has them
  bool deterministic = false;       ///< on a GPU; a CPU always is
};

/// invalid_argument (isa, kv_type): there is no instruction set, or no KV type, of that name. Whether the machine has
/// it, make_cpu_lane asks.
result<cpu_lane_options> choose_lane(const lane_wish& wish);

/// As many threads as a team should have on this machine: threads_for in team_plan.hpp says by which rule.
int default_threads();

}  // namespace troupe::kernels
