// The driver's entry points are asked for at run time: the program links no libcuda.
#include "kernels/cuda/device_parts.hpp"

#include <string>

#include <cuda.h>

namespace troupe::kernels::cuda {
namespace {

template <class Function>
result<Function> entry(const char* name) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult how{};
  const auto status = cudaGetDriverEntryPointByVersion(name, &found, 12050, cudaEnableDefault, &how);
  if (status != cudaSuccess || how != cudaDriverEntryPointSuccess || !found)
    return error{errc::unsupported, std::string("this driver has no ") + name, {}};
  return reinterpret_cast<Function>(found);
}

result<void> driver_check(CUresult status, const char* what) {
  if (status == CUDA_SUCCESS) return {};
  return error{errc::unsupported,
               std::string("CUDA: ") + what + ": driver error " + std::to_string(static_cast<int>(status)),
               {}};
}

}  // namespace

result<std::unique_ptr<device_parts>> device_parts::divide(std::int32_t second) {
  const auto get = entry<decltype(&cuDeviceGetDevResource)>("cuDeviceGetDevResource");
  const auto split = entry<decltype(&cuDevSmResourceSplitByCount)>("cuDevSmResourceSplitByCount");
  const auto describe = entry<decltype(&cuDevResourceGenerateDesc)>("cuDevResourceGenerateDesc");
  const auto create = entry<decltype(&cuGreenCtxCreate)>("cuGreenCtxCreate");
  for (const auto& one :
       {get ? result<void>() : result<void>(get.why()), split ? result<void>() : result<void>(split.why()),
        describe ? result<void>() : result<void>(describe.why()), create ? result<void>() : result<void>(create.why())})
    if (!one) return one.why();
  if (auto r = check(cudaFree(nullptr), "starting the device"); !r) return r.why();
  int device = 0;
  if (auto r = check(cudaGetDevice(&device), "asking for the device"); !r) return r.why();
  CUdevResource whole{}, part{}, rest{};
  if (auto r = driver_check((*get)(device, &whole, CU_DEV_RESOURCE_TYPE_SM), "asking for multiprocessors"); !r)
    return r.why();
  unsigned groups = 1;
  if (auto r = driver_check((*split)(&part, &groups, &whole, &rest, 0, static_cast<unsigned>(second)),
                            "dividing the multiprocessors");
      !r)
    return r.why();
  std::unique_ptr<device_parts> made(new device_parts);
  CUdevResource* const of[2] = {&rest, &part};
  for (std::size_t i = 0; i < 2; ++i) {
    CUdevResourceDesc text{};
    if (auto r = driver_check((*describe)(&text, of[i], 1), "describing multiprocessors"); !r) return r.why();
    CUgreenCtx context{};
    if (auto r =
            driver_check((*create)(&context, text, device, CU_GREEN_CTX_DEFAULT_STREAM), "making a part of the device");
        !r)
      return r.why();
    made->contexts_[i] = context;
    made->counts_[i] = static_cast<std::int32_t>(of[i]->sm.smCount);
  }
  return made;
}

device_parts::~device_parts() {
  const auto destroy = entry<decltype(&cuGreenCtxDestroy)>("cuGreenCtxDestroy");
  if (!destroy) return;
  for (void* one : contexts_)
    if (one) static_cast<void>((*destroy)(static_cast<CUgreenCtx>(one)));
}

result<stream> device_parts::make_stream(std::size_t part) const {
  const auto create = entry<decltype(&cuGreenCtxStreamCreate)>("cuGreenCtxStreamCreate");
  if (!create) return create.why();
  int lowest = 0;
  int highest = 0;
  if (auto r = check(cudaDeviceGetStreamPriorityRange(&lowest, &highest), "reading stream priorities"); !r)
    return r.why();
  CUstream made{};
  const auto status =
      (*create)(&made, static_cast<CUgreenCtx>(contexts_[part]), CU_STREAM_NON_BLOCKING, part == 0 ? highest : lowest);
  if (auto r = driver_check(status, "making a stream on a part of the device"); !r) return r.why();
  return stream{made};
}

}  // namespace troupe::kernels::cuda
