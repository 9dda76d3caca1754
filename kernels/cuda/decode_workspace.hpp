// Where decode attention leaves what is not whole yet: results of splits, one for each sequence and group of query heads, and
// counts of those that are there. Knows no split's length.
#pragma once

#include <cmath>

#include "kernels/cuda/attention.hpp"

namespace troupe::kernels::cuda::decode {

constexpr int columns = 8;  ///< query heads of one item
constexpr int block_tokens = kv_layout::block_tokens;
constexpr float minus_infinity = -INFINITY;

/// Query heads of a KV head in groups of up to eight.
struct head_groups {
  int heads;   ///< query heads of a KV head
  int groups;  ///< of a KV head
  int all;     ///< of all KV heads
  TROUPE_HOST_DEVICE int kv_head(int group) const { return groups == 1 ? group : group / groups; }
};

inline head_groups groups_of(int heads, const kv_layout& kv) {
  const int all = decode_groups(heads, kv.kv_heads);
  return {heads / kv.kv_heads, all / kv.kv_heads, all};
}

struct workspace_view {
  int* arrivals;   ///< [sequence][group]
  float* records;  ///< [slot][group][column][head_dim + 4]: sums of values, maximum (in powers of two), sum
};

inline std::int64_t arrival_bytes(const head_groups& heads) { return std::int64_t{most_decode_sequences} * heads.all * 4; }

inline workspace_view workspace_of(const attention_call& call) {
  const head_groups heads = groups_of(call.heads, call.kv);
  return {reinterpret_cast<int*>(call.workspace), reinterpret_cast<float*>(call.workspace + arrival_bytes(heads))};
}

}  // namespace troupe::kernels::cuda::decode
