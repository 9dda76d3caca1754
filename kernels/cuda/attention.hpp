// Causal attention over paged KV: one row of many sequences (decode), many rows of some (prefill). Knows the arena's
// layout and the step's plan; no model. head_dim 64 or 128; any number of query heads a KV head.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.hpp"
#include "kernels/cuda/kv_layout.hpp"
#include "kernels/cuda/rope_store.hpp"
#include "kernels/cuda/shared_tables.hpp"
#include "kernels/cuda/step_plan.hpp"
#include "kernels/cuda/step_tables.hpp"

namespace troupe::kernels::cuda {

struct attention_call {
  const step_tables* tables = nullptr;
  step_plan plan;
  const bf16* qkv = nullptr;  ///< [T, (heads + 2 * kv_heads) * head_dim]
  std::int32_t heads = 0;
  float scale = 1.0f;
  std::int32_t layer = 0;
  kv_layout kv;
  /// Decode only. With angles: the rows are as the product left them; attention rotates them and stores K and V itself
  /// (bit-equal to rope_store), and reads what was cached before its predecessor has ended.
  rotation rope;
  bf16* out = nullptr;  ///< [T, heads * head_dim]
  /// Decode only, where `reads_shared`: the plan was made with the same.
  shared_tables shared;
  std::byte* workspace = nullptr;  ///< decode_workspace_bytes; its first most_decode_blocks words are 0 before the
                                   ///< first call and after each
  /// Prefill only: how many tiles the step has and how many keys the longest sees, as far as the host knows (0: it does
  /// not), and prefill_workspace_bytes. Where few tiles would leave most of the device idle, their keys are split.
  std::int32_t tiles = 0;
  std::int32_t longest = 0;
  std::byte* split_workspace = nullptr;
};

/// Partial results of split prefill tiles, on the current device; 0 where none are split.
std::int64_t prefill_workspace_bytes(std::int32_t head_dim);

/// Whether attend_decode can read what sequences share once: K and V in bf16, on Hopper.
bool reads_shared(const kv_layout& kv, std::int32_t heads);

/// Counters and partial results; of what is read for several sequences at once, so many results.
std::int64_t decode_workspace_bytes(std::int64_t shared_results, std::int32_t heads, const kv_layout& kv);

/// Whether attend_decode's work is divided among clusters of blocks, one for each sequence and group of query heads:
/// where sequences are few and short.
bool decodes_in_clusters(const step_tables& tables, std::int32_t heads, const kv_layout& kv);

/// Rows of the sequences that have one row in this step. Reads their K and V once for each group of up to eight query
/// heads. Where sums are cut, and so a row's bits, follows from the lengths of all of the step's sequences.
void attend_decode(const attention_call& call, cudaStream_t on);

/// Rows of the sequences that have several; their K and V are in the arena, their Q is rotated (rope_store). A row's
/// bits do not depend on how its prompt is cut into chunks, unless `tiles` lets keys be split.
void attend_prefill(const attention_call& call, cudaStream_t on);
std::int32_t prefill_tile_rows();

}  // namespace troupe::kernels::cuda
