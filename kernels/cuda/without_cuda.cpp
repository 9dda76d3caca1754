// What a build without CUDA says when asked for it.
#include "kernels/cuda/cuda_lane.hpp"

namespace troupe::kernels::cuda {

bool built_with_cuda() noexcept { return false; }

result<device_facts> find_device() {
  return error{errc::unsupported, "This build has no CUDA lane; configure with -DTROUPE_CUDA=ON where nvcc is installed.", "device"};
}

}  // namespace troupe::kernels::cuda
