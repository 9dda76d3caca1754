// Weights kept on the device as the file has them, row by row: what embeddings are looked up in. Knows no product.
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/cuda/device.hpp"
#include "memory/tensor_view.hpp"

namespace troupe::kernels::cuda {

/// [rows, cols], rows contiguous and `stride` bytes apart.
struct stored_rows {
  std::shared_ptr<device_buffer> bytes;
  memory::dtype type = memory::dtype::f32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t stride = 0;
};

/// Memory for a table like that, contents undefined. unsupported: a type that has no decoder here.
result<stored_rows> make_rows(const memory::tensor_view& like);
/// Copies from the host; returns when done.
result<stored_rows> store_rows(const memory::tensor_view& from, cudaStream_t on);

}  // namespace troupe::kernels::cuda
