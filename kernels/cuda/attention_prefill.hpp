// The ways to do prefill attention; attend_prefill takes the one for the device. Knows no model.
#pragma once

#include "kernels/cuda/attention.hpp"

namespace troupe::kernels::cuda {

constexpr std::int32_t prefill_rows_a_tile = 128;

/// Any tensor core since sm_80.
void attend_prefill_by_warps(const attention_call& call, cudaStream_t on);
/// Hopper (compute capability 9.0) only.
void attend_prefill_by_groups(const attention_call& call, cudaStream_t on);
/// Of one tile, head and part of the keys: results not yet divided by their sum, then each row's largest score and sum.
TROUPE_HOST_DEVICE constexpr std::int64_t split_floats(std::int32_t head_dim) {
  return std::int64_t{prefill_rows_a_tile} * (head_dim + 2);
}

}  // namespace troupe::kernels::cuda
