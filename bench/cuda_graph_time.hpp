// Times of launches on the device: medians of replays of a captured graph, so that the host's launches are not in them.
#pragma once

#include <functional>

#include "tests/gpu/device_array.hpp"

namespace troupe::kernels::cuda {

/// Median milliseconds of one replay of a graph of what `body` launches.
inline double replay(const std::function<void(cudaStream_t)>& body, int repeats = 15) {
  cudaStream_t on{};
  must(cudaStreamCreateWithFlags(&on, cudaStreamNonBlocking), "stream");
  must(cudaStreamBeginCapture(on, cudaStreamCaptureModeThreadLocal), "capture");
  body(on);
  cudaGraph_t graph{};
  must(cudaStreamEndCapture(on, &graph), "end of capture");
  cudaGraphExec_t exec{};
  must(cudaGraphInstantiate(&exec, graph, 0), "instantiate");
  cudaEvent_t start{}, stop{};
  must(cudaEventCreate(&start), "event");
  must(cudaEventCreate(&stop), "event");
  std::vector<float> times;
  for (int i = 0; i < repeats + 3; ++i) {
    must(cudaEventRecord(start, on), "record");
    must(cudaGraphLaunch(exec, on), "launch");
    must(cudaEventRecord(stop, on), "record");
    must(cudaEventSynchronize(stop), "synchronise");
    float ms = 0;
    must(cudaEventElapsedTime(&ms, start, stop), "elapsed");
    if (i >= 3) times.push_back(ms);
  }
  must(cudaGetLastError(), "replay");
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
  cudaEventDestroy(start);
  cudaEventDestroy(stop);
  cudaStreamDestroy(on);
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2), times.end());
  return static_cast<double>(times[times.size() / 2]);
}

}  // namespace troupe::kernels::cuda
