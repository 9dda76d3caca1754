// A lane on the device that a user wishes for. Knows no model.
#pragma once

#include <memory>
#include <string>

#include <troupe/result.hpp>

#include "kernels/cpu/lane_choice.hpp"
#include "kernels/lane.hpp"

namespace troupe::kernels {

struct any_lane {
  std::unique_ptr<kernels::lane> lane;
  std::string device;        ///< cpu or cuda
  std::int32_t threads = 0;  ///< 0 on a GPU
  std::string isa;           ///< on a GPU its architecture, sm_90
};

/// device: cpu, cuda, or auto (the GPU where one answers and this build can use it). invalid_argument: a device or
/// instruction set of no such name, or a KV type that the device does not have; else those of make_cpu_lane and make_cuda_lane.
result<any_lane> make_lane(const std::string& device, const lane_wish& on_cpu);

}  // namespace troupe::kernels
