// Device memory of a check or benchmark: an error ends the program. Knows no kernel.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

#include <cuda_runtime.h>

namespace troupe::kernels::cuda {

inline void must(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  std::printf("FAIL  CUDA: %s: %s\n", what, cudaGetErrorString(status));
  std::exit(1);
}

template <class T>
class device_array {
public:
  device_array() = default;
  explicit device_array(std::size_t size) : size_(size) {
    must(cudaMalloc(reinterpret_cast<void**>(&data_), std::max<std::size_t>(size, 1) * sizeof(T)), "cudaMalloc");
  }
  explicit device_array(const std::vector<T>& host) : device_array(host.size()) { upload(host); }
  device_array(device_array&& other) noexcept : data_(std::exchange(other.data_, nullptr)), size_(other.size_) {}
  device_array& operator=(device_array&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~device_array() { cudaFree(data_); }
  T* data() const { return data_; }
  std::size_t size() const { return size_; }
  /// Both are over when they return: cudaMemcpy of pageable memory and cudaMemset are not, for streams that do not wait
  /// for the default one.
  void upload(const std::vector<T>& host) {
    finish(cudaMemcpy(data_, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice), "upload");
  }
  std::vector<T> download() const {
    std::vector<T> host(size_);
    must(cudaMemcpy(host.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost), "download");
    return host;
  }
  void fill(int byte) { finish(cudaMemset(data_, byte, size_ * sizeof(T)), "fill"); }

private:
  static void finish(cudaError_t status, const char* what) {
    must(status, what);
    must(cudaDeviceSynchronize(), what);
  }

  T* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace troupe::kernels::cuda
