// What CUDA hands out, owned: streams, events, graphs, memory; checks that become results; the one way to launch a
// kernel. Knows no op and no model. Included by kernels/cuda only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <troupe/result.hpp>

namespace troupe::kernels::cuda {

using bf16 = __nv_bfloat16;

/// `what` is what was being done ("copying weights"). out_of_memory for a failed allocation; internal for the rest:
/// after an illegal access every later call of the process fails alike.
result<void> check(cudaError_t status, const char* what);

/// Move-only ownership of a handle that `Destroy` gives back.
template <class Handle, cudaError_t (*Destroy)(Handle)>
class owned {
public:
  owned() = default;
  explicit owned(Handle handle) noexcept : handle_(handle) {}
  owned(owned&& other) noexcept : handle_(std::exchange(other.handle_, Handle{})) {}
  owned& operator=(owned&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~owned() {
    if (handle_) static_cast<void>(Destroy(handle_));  // at a process's end the driver may be gone already
  }
  Handle get() const noexcept { return handle_; }
  explicit operator bool() const noexcept { return handle_ != Handle{}; }

private:
  Handle handle_{};
};

using stream = owned<cudaStream_t, cudaStreamDestroy>;
using event = owned<cudaEvent_t, cudaEventDestroy>;
using graph = owned<cudaGraph_t, cudaGraphDestroy>;
using graph_exec = owned<cudaGraphExec_t, cudaGraphExecDestroy>;

enum class stream_priority { low, high };
result<stream> make_stream(stream_priority priority = stream_priority::low);
/// timed: for measurements; without, recording costs less.
result<event> make_event(bool timed = false);

/// Bytes on the device, or pinned on the host. Move-only.
template <class Owner>
class memory_of {
public:
  memory_of() = default;
  memory_of(Owner data, std::int64_t bytes) noexcept : data_(std::move(data)), bytes_(bytes) {}
  memory_of(memory_of&&) noexcept = default;
  memory_of& operator=(memory_of&&) noexcept = default;
  const Owner& owner() const noexcept { return data_; }
  void* data() const noexcept { return data_.get(); }
  std::int64_t bytes() const noexcept { return bytes_; }
  template <class T>
  T* as() const noexcept {
    return static_cast<T*>(data_.get());
  }

private:
  Owner data_;
  std::int64_t bytes_ = 0;
};
using device_buffer = memory_of<std::shared_ptr<void>>;
using pinned_buffer = memory_of<owned<void*, cudaFreeHost>>;

/// Contents undefined; aligned to 256 bytes. 0 bytes: a null buffer.
result<device_buffer> allocate_device(std::int64_t bytes);
/// Some of its bytes. What was allocated at once goes when the last that holds some of it does. 0 bytes: a null buffer.
device_buffer part_of(const device_buffer& whole, std::int64_t offset, std::int64_t bytes);
result<pinned_buffer> allocate_pinned(std::int64_t bytes);

/// Launches with programmatic dependent launch where the device has it: the kernel may begin before its predecessor in
/// the stream has ended. So every kernel launched here calls wait_for_predecessor() before it reads what another wrote
/// or writes what another reads, in every thread, and let_successor_start() as early as it likes.
/// A failure stays in the runtime as this thread's last error; the lane asks for it once a step.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t on,
            Arguments&&... arguments) {
  cudaLaunchAttribute overlap{};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = on;
  config.attrs = &overlap;
  config.numAttrs = 1;
  static_cast<void>(cudaLaunchKernelEx(&config, kernel, Parameters(std::forward<Arguments>(arguments))...));
}

/// The same for a kernel whose blocks wait for each other: all of them are on the device at once, or none.
template <class... Parameters, class... Arguments>
void launch_together(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t on,
                     Arguments&&... arguments) {
  cudaLaunchAttribute how[2]{};
  how[0].id = cudaLaunchAttributeCooperative;
  how[0].val.cooperative = 1;
  how[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  how[1].val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = on;
  config.attrs = how;
  config.numAttrs = 2;
  static_cast<void>(cudaLaunchKernelEx(&config, kernel, Parameters(std::forward<Arguments>(arguments))...));
}

#ifdef __CUDACC__
/// Returns when all kernels before this one have ended and their writes can be seen.
__device__ inline void wait_for_predecessor() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  cudaGridDependencySynchronize();
#endif
}
/// The next kernel may begin once every block of this one has called this or ended.
__device__ inline void let_successor_start() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  cudaTriggerProgrammaticLaunchCompletion();
#endif
}
#endif

}  // namespace troupe::kernels::cuda
