// Ops on rows alone: embedding, norm, gate. Knows no sequence and no weight layout but the table's.
// Each reads and writes every byte once; a row's result depends on the row only.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.hpp"
#include "kernels/cuda/step_tables.hpp"
#include "kernels/cuda/stored_rows.hpp"

namespace troupe::kernels::cuda {

/// Rows somewhere on the device, `stride` bytes apart.
struct table_rows {
  const unsigned char* data = nullptr;
  memory::dtype type = memory::dtype::f32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t stride = 0;
};

/// out[T, cols] f32 = rows `tables.ids` of the table; an id that is no row of it counts as 0.
void embed(const table_rows& table, const step_tables& tables, float* out, std::int64_t out_stride, cudaStream_t on);

/// out[rows, n] bf16 = x[rows, n] / rms(x) * weight[n]. Strides in elements.
void rms_norm(const float* x, std::int64_t x_stride, const float* weight, float eps, std::int64_t rows, std::int64_t n,
              bf16* out, std::int64_t out_stride, cudaStream_t on);

/// out[rows, n] = silu(gate_up[rows, 0:n]) * gate_up[rows, n:2n]
void silu_mul(const bf16* gate_up, std::int64_t stride, std::int64_t rows, std::int64_t n, bf16* out,
              std::int64_t out_stride, cudaStream_t on);

}  // namespace troupe::kernels::cuda
