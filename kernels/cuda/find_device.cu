// Which device there is, and whether this build has code for it. Knows no op.
#include <string>

#include "kernels/cuda/cuda_lane.hpp"
#include "kernels/cuda/device.hpp"

namespace troupe::kernels::cuda {
namespace {

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

__global__ void probe() {}

}  // namespace

bool built_with_cuda() noexcept { return true; }

result<device_facts> find_device() {
  int count = 0;
  const auto status = cudaGetDeviceCount(&count);
  if (status == cudaErrorNoDevice || status == cudaErrorInsufficientDriver || (status == cudaSuccess && count == 0)) {
    static_cast<void>(cudaGetLastError());
    const bool old = status == cudaErrorInsufficientDriver;
    return error{
        errc::not_found,
        old ? "No NVIDIA driver answers, or it is older than this build of CUDA." : "No NVIDIA device answers.",
        "device"};
  }
  if (auto r = check(status, "looking for devices"); !r) return r.why();
  cudaDeviceProp about{};
  if (auto r = check(cudaGetDeviceProperties(&about, 0), "reading the device's properties"); !r) return r.why();
  device_facts facts;
  facts.name = about.name;
  facts.architecture = about.major * 10 + about.minor;
  facts.multiprocessors = about.multiProcessorCount;
  facts.l2_bytes = about.l2CacheSize;
  int version = 0;
  if (auto r = check(cudaDriverGetVersion(&version), "reading the driver's version"); !r) return r.why();
  facts.driver = version_text(version);
  if (auto r = check(cudaRuntimeGetVersion(&version), "reading the runtime's version"); !r) return r.why();
  facts.runtime = version_text(version);
  cudaFuncAttributes code{};
  if (cudaFuncGetAttributes(&code, probe) != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    return error{errc::unsupported,
                 "This build has no kernels for " + facts.name + " (sm_" + std::to_string(facts.architecture) +
                     "); configure with -DTROUPE_CUDA_ARCHITECTURES=" + std::to_string(facts.architecture) + ".",
                 "device"};
  }
  std::size_t free = 0;
  std::size_t total = 0;
  if (auto r = check(cudaMemGetInfo(&free, &total), "reading the device's free memory"); !r) return r.why();
  facts.free_bytes = static_cast<std::int64_t>(free);
  facts.memory_bytes = static_cast<std::int64_t>(total);
  return facts;
}

}  // namespace troupe::kernels::cuda
