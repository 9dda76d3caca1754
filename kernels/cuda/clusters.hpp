// Clusters of thread blocks, which devices have since compute capability 9.0: a kernel's declaration that compiles for
// older ones too, and the question whether this one has them.
#pragma once

#include "kernels/cuda/device.hpp"

namespace troupe::kernels::cuda {

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
#define TROUPE_CLUSTER(blocks)
#else
#define TROUPE_CLUSTER(blocks) __cluster_dims__(blocks, 1, 1)
#endif

inline bool device_has_clusters() {
  int device = 0, major = 0;
  static_cast<void>(cudaGetDevice(&device));
  static_cast<void>(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  return major >= 9;
}

}  // namespace troupe::kernels::cuda
