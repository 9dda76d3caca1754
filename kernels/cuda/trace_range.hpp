// What a thread is doing, by name, for a profiler that asks (NVTX, which Nsight Systems shows). Knows nobody's name; in
// a build without CUDA it does nothing.
#pragma once

namespace troupe::kernels::cuda {

/// From here to its end, on this thread; ranges may lie within each other. Costs a test of a pointer where nobody asks.
class trace_range {
public:
  explicit trace_range(const char* name) noexcept;
  ~trace_range();
  trace_range(const trace_range&) = delete;
  trace_range& operator=(const trace_range&) = delete;
};

}  // namespace troupe::kernels::cuda
