// Errors of the CUDA runtime as results, and the makers of what device.hpp owns. Knows no op.
#include "kernels/cuda/device.hpp"

#include <string>

namespace troupe::kernels::cuda {

result<void> check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return {};
  const auto code = status == cudaErrorMemoryAllocation ? errc::out_of_memory : errc::internal;
  return error{code,
               std::string("CUDA: ") + what + ": " + cudaGetErrorString(status) + " (" + cudaGetErrorName(status) + ")",
               {}};
}

result<stream> make_stream(stream_priority priority) {
  int lowest = 0;
  int highest = 0;
  if (auto r = check(cudaDeviceGetStreamPriorityRange(&lowest, &highest), "reading stream priorities"); !r)
    return r.why();
  cudaStream_t made{};
  const int wanted = priority == stream_priority::high ? highest : lowest;
  if (auto r = check(cudaStreamCreateWithPriority(&made, cudaStreamNonBlocking, wanted), "making a stream"); !r)
    return r.why();
  return stream{made};
}

result<event> make_event(bool timed) {
  cudaEvent_t made{};
  const unsigned flags = timed ? cudaEventDefault : cudaEventDisableTiming;
  if (auto r = check(cudaEventCreateWithFlags(&made, flags), "making an event"); !r) return r.why();
  return event{made};
}

result<device_buffer> allocate_device(std::int64_t bytes) {
  void* data = nullptr;
  if (bytes <= 0) return device_buffer{};
  const auto status = cudaMalloc(&data, static_cast<std::size_t>(bytes));
  if (status == cudaErrorMemoryAllocation) static_cast<void>(cudaGetLastError());  // not the next launch's fault
  if (auto r = check(status, "taking device memory"); !r) return r.why();
  return device_buffer{std::shared_ptr<void>(data, cudaFree), bytes};
}

device_buffer part_of(const device_buffer& whole, std::int64_t offset, std::int64_t bytes) {
  if (bytes <= 0) return {};
  return {std::shared_ptr<void>(whole.owner(), whole.as<std::byte>() + offset), bytes};
}

result<pinned_buffer> allocate_pinned(std::int64_t bytes) {
  void* data = nullptr;
  if (bytes <= 0) return pinned_buffer{};
  const auto status = cudaMallocHost(&data, static_cast<std::size_t>(bytes));
  if (status == cudaErrorMemoryAllocation) static_cast<void>(cudaGetLastError());
  if (auto r = check(status, "taking pinned host memory"); !r) return r.why();
  return pinned_buffer{owned<void*, cudaFreeHost>(data), bytes};
}

}  // namespace troupe::kernels::cuda
