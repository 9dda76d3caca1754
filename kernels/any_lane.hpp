// A lane on the device that a user wishes for. Knows no model.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include <troupe/result.hpp>

#include "kernels/cpu/lane_choice.hpp"
#include "kernels/kv_copies.hpp"
#include "kernels/lane.hpp"

namespace troupe::kernels {

/// What a lane does before the first step of `space` counts: calls `whole`, a step's ops, and `ends`, those of a step
/// that has its first and its last layer only, for batches of its own over blocks [0, blocks) of the arena that they
/// write to.
using lane_warming = std::function<result<void>(kernels::lane&, step_space* space, const step_ops& whole,
                                                const step_ops& ends, std::int32_t blocks)>;

struct any_lane {
  std::unique_ptr<kernels::lane> lane;
  std::string device;        ///< cpu or cuda
  std::int32_t threads = 0;  ///< 0 on a GPU
  std::string isa;           ///< on a GPU its architecture, sm_90
  /// A queue for prompts beside this lane's decodes, made once the weights are on the lane; empty where a device has
  /// only one. `divided`: while both have work each has a part of the device for itself; unsupported where that cannot
  /// be.
  std::function<result<std::unique_ptr<kernels::lane>>(kernels::lane&, bool divided)> second_queue = {};
  lane_warming warm_up =
      {};  ///< of this lane and of its second queue; empty where first steps take no longer than others
  kv_copies_maker host_blocks = {};  ///< for blocks that leave the device; empty where blocks lie in host memory anyway
};

/// device: cpu, cuda, or auto (the GPU where one answers and this build can use it). invalid_argument: a device or
/// instruction set of no such name, or a KV type that the device does not have; else those of make_cpu_lane and
/// make_cuda_lane.
result<any_lane> make_lane(const std::string& device, const lane_wish& on_cpu);

}  // namespace troupe::kernels
