// Rearranges weights on the device: rows of a file in, the layouts of weights.hpp out. Knows no product.
#pragma once

#include "kernels/cuda/weights.hpp"

namespace troupe::kernels::cuda {

/// Rows of one part as the file has them, on the device.
struct file_rows {
  const std::uint8_t* data;
  long stride;
  memory::dtype type;
  int rows, cols;
  int first_row;  ///< in the stacked matrix
};

/// Queues the work; what pads the matrix is left alone. The type must be one that packs_as allows.
result<void> pack_rows(const file_rows& f, device_matrix& m, cudaStream_t on);

}  // namespace troupe::kernels::cuda
