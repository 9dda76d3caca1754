// The lane of one CUDA device. Shows no CUDA type, so that any room to the right may include it; in a build without
// CUDA it exists and says so.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <troupe/result.hpp>

#include "kernels/lane.hpp"

namespace troupe::kernels::cuda {

/// What `troupe doctor` shows and `--device auto` asks.
struct device_facts {
  std::string name;
  std::string driver;   ///< newest CUDA version that the driver runs, "13.0"
  std::string runtime;  ///< that this build was made with
  int architecture = 0;  ///< 90 for compute capability 9.0
  int multiprocessors = 0;
  std::int64_t memory_bytes = 0;
  std::int64_t free_bytes = 0;
  std::int64_t l2_bytes = 0;
};

/// Was this build made with CUDA?
bool built_with_cuda() noexcept;

/// The device that a lane would use. Errors: unsupported (a build without CUDA; a device that this build has no kernels
/// for), not_found (no driver or no device), internal.
result<device_facts> find_device();

/// A lane on the device that find_device describes. The process's first lane takes a second: the driver starts.
/// Errors: those of find_device.
result<std::unique_ptr<lane>> make_cuda_lane();

}  // namespace troupe::kernels::cuda
