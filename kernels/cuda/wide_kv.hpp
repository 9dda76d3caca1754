// K and V of a byte a number as bf16, for kernels that read nothing else. Knows no attention.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.hpp"
#include "kernels/cuda/kv_layout.hpp"
#include "kernels/cuda/step_tables.hpp"

namespace troupe::kernels::cuda {

struct widen_call {
  const step_tables* tables = nullptr;
  kv_layout from;               ///< narrow
  std::int32_t layer = 0;       ///< of `from`
  kv_layout to;                 ///< bf16, one layer, as many blocks
  std::int32_t least_rows = 2;  ///< of a sequence that is meant
};

/// All blocks of the sequences that are prefilled in this step, each to the block of its number: reads a byte a number
/// and writes two. K stays turned.
void widen_kv(const widen_call& call, cudaStream_t on);

}  // namespace troupe::kernels::cuda
