// Weights kept on the device as the file has them, row by row: what embeddings are looked up in. Knows no product.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.hpp"
#include "memory/tensor_view.hpp"

namespace troupe::kernels::cuda {

/// [rows, cols], rows contiguous and `stride` bytes apart.
struct stored_rows {
  device_buffer bytes;
  memory::dtype type = memory::dtype::f32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t stride = 0;
};

/// Copies from the host; returns when done. unsupported: a type that has no decoder here.
result<stored_rows> store_rows(const memory::tensor_view& from, cudaStream_t on);

#ifdef __CUDACC__
/// One element of a row; blocks as in the GGUF specification. Plain, not fast.
__device__ inline float element_of(const unsigned char* row, memory::dtype type, std::int64_t col) {
  const auto half_at = [](const unsigned char* at) {
    __half_raw raw;
    raw.x = static_cast<unsigned short>(at[0] | at[1] << 8);
    return __half2float(__half(raw));
  };
  const std::int64_t block = col / 32;
  const int i = static_cast<int>(col % 32);
  switch (type) {
    case memory::dtype::f32: return reinterpret_cast<const float*>(row)[col];
    case memory::dtype::f16: return half_at(row + 2 * col);
    case memory::dtype::bf16: return __bfloat162float(reinterpret_cast<const bf16*>(row)[col]);
    case memory::dtype::q4_0: {
      const unsigned char* b = row + block * 18;
      const int q = i < 16 ? b[2 + i] & 15 : b[2 + i - 16] >> 4;
      return half_at(b) * static_cast<float>(q - 8);
    }
    case memory::dtype::q4_1: {
      const unsigned char* b = row + block * 20;
      const int q = i < 16 ? b[4 + i] & 15 : b[4 + i - 16] >> 4;
      return half_at(b) * static_cast<float>(q) + half_at(b + 2);
    }
    case memory::dtype::q8_0: {
      const unsigned char* b = row + block * 34;
      return half_at(b) * static_cast<float>(static_cast<signed char>(b[2 + i]));
    }
    default: return 0.0f;
  }
}
#endif

}  // namespace troupe::kernels::cuda
