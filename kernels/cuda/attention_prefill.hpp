// The ways to do prefill attention; attend_prefill takes the one for the device. Knows no model.
#pragma once

#include "kernels/cuda/attention.hpp"

namespace troupe::kernels::cuda {

constexpr std::int32_t prefill_rows_a_tile = 128;

/// Any tensor core since sm_80.
void attend_prefill_by_warps(const attention_call& call, cudaStream_t on);
/// Hopper (compute capability 9.0) only.
void attend_prefill_by_groups(const attention_call& call, cudaStream_t on);

}  // namespace troupe::kernels::cuda
