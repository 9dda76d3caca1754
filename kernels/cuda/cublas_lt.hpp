// cuBLASLt, if the machine has it: loaded when first asked for, so that the program starts and runs without it.
// Knows plain row-major matrices only.
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/cuda/device.hpp"
#include "kernels/cuda/library_choices.hpp"

namespace troupe::kernels::cuda {

/// out[rows, n] (+)= x[rows, k] . w[n, k]^T, all row-major on the device.
struct dense_product {
  const void* w = nullptr;
  const void* x = nullptr;
  void* out = nullptr;
  std::int64_t w_stride = 0, x_stride = 0, out_stride = 0;  ///< elements
  std::int32_t n = 0, k = 0, rows = 0;
  using element = library_shape::element;
  element inputs = element::bf16;
  library_way way = usual_way;     ///< one of the library's; what it does not have is its first
  bool f32_out = false;            ///< else bf16
  bool add = false;                ///< f32_out only
  const float* w_scale = nullptr;  ///< fp8: [n]
  const float* x_scale = nullptr;  ///< fp8: [rows]
};

class cublas_lt {
public:
  virtual ~cublas_lt() = default;
  /// Not thread-safe. The first call of a shape, and of a range of rows, asks the library's heuristics and may load a
  /// kernel (up to 25 ms on the host); nothing is allocated on the device and nothing synchronises, so it may be
  /// captured. The order of a sum depends on the range that `rows` is in.
  virtual result<void> multiply(const dense_product& p, cudaStream_t on) = 0;
  /// How many ways it has for this product, up to most_library_ways.
  virtual result<std::int32_t> ways(const dense_product& p) = 0;
  virtual std::size_t version() const = 0;
};

/// The most rows of the range that `rows` is in.
std::int32_t library_range(std::int32_t rows);

/// unsupported: the library is not there.
result<std::unique_ptr<cublas_lt>> load_cublas_lt();

}  // namespace troupe::kernels::cuda
