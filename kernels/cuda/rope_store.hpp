// Rotary positions on the rows of a step, and K and V into the paged arena. Knows no attention.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.hpp"
#include "kernels/cuda/kv_layout.hpp"
#include "kernels/cuda/step_plan.hpp"
#include "kernels/cuda/step_tables.hpp"

namespace troupe::kernels::cuda {

/// What rotates a row: `dims` first dimensions of every Q and K head, in pairs (2i, 2i + 1) where interleaved, else
/// (i, i + dims / 2). dims is a multiple of 16.
struct rotation {
  const float2* angles = nullptr;  ///< step_plan::angles; null: rows come rotated and stored
  std::int32_t dims = 0;
  bool interleaved = true;
};

struct rope_store_call {
  const step_tables* tables = nullptr;
  bf16* qkv =
      nullptr;  ///< [T, (heads + 2 * kv_heads) * head_dim]; Q is rotated in place, K only on its way to the arena
  std::int32_t heads = 0;
  std::int32_t layer = 0;
  kv_layout kv;
  rotation rope;
};

/// Reads and writes each row once: T * (2 * heads + 4 * kv_heads) * head_dim * 2 bytes.
void rope_store(const rope_store_call& call, cudaStream_t on);

}  // namespace troupe::kernels::cuda
