// Where decode attention leaves what is not whole yet: results of pairs (of a sequence and a group of query heads) that
// several blocks divide, counts of those that are there, and results of what is read for several sequences at once.
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

/// A record is [column][head_dim + 4]: sums of values, maximum (in powers of two), sum.
struct workspace_view {
  int* arrivals;   ///< of each block: results of the pair that began in it and goes on in others
  float* records;  ///< [block][2]: of the pair with which it begins, of that with which it ends
  float* shared;   ///< [slot][group]
};

constexpr std::int64_t arrival_bytes = most_decode_blocks * 4;
TROUPE_HOST_DEVICE constexpr std::int64_t record_floats(std::int32_t head_dim) {
  return std::int64_t{columns} * (head_dim + 4);
}

inline workspace_view workspace_of(const attention_call& call) {
  auto* const records = reinterpret_cast<float*>(call.workspace + arrival_bytes);
  return {reinterpret_cast<int*>(call.workspace), records,
          records + 2 * most_decode_blocks * record_floats(call.kv.head_dim)};
}

}  // namespace troupe::kernels::cuda::decode
