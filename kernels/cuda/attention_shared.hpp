// The part of decode attention that is done for several sequences at once; attend_decode calls it. Knows no model.
#pragma once

#include "kernels/cuda/attention.hpp"

namespace troupe::kernels::cuda {

/// Results of call.shared's items, to the workspace: attend_decode's next kernel merges them. Only where reads_shared.
void attend_shared(const attention_call& call, cudaStream_t on);

}  // namespace troupe::kernels::cuda
