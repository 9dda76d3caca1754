// Rotates Q and K of a step's rows and writes K and V to the arena: as the op rope_store, or part by part for an op
// that goes on with them. Knows the arena's layout; the arithmetic is the kernel set's.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cpu/kernel_set.hpp"
#include "kernels/cpu/kv_arena.hpp"
#include "kernels/cpu/rope_table.hpp"
#include "kernels/cpu/thread_team.hpp"
#include "kernels/lane.hpp"

namespace troupe::kernels {

struct rope_store_call {
  tensor_view qkv;
  std::int32_t heads = 0;
  std::int32_t layer = 0;
  const cpu_kv_arena* kv = nullptr;
};

/// Holds the angles of a step, which are the same in every layer.
class rope_writer {
public:
  /// Before anything else of a step: its rows' angles.
  void prepare(const rope_shape& rope, std::span<const sequence_rows> batch);
  /// All of Q, K and V.
  void run(const rope_store_call& call, const kernel_set& kernels, thread_team& team) const;

  /// Thread's share of K and V, without Q. No two threads write to one block.
  void store_share(const rope_store_call& call, const kernel_set& kernels, const thread_team& team, int thread,
                   int threads) const;
  /// K and V of one KV head, of `rows` rows that stand in one block.
  void store(const rope_store_call& call, const kernel_set& kernels, std::int64_t row, std::int32_t rows,
             std::int32_t position, std::int32_t block, std::int32_t kv_head) const;
  /// One head of a row, in place.
  void turn(float* head, std::int64_t row, const kernel_set& kernels) const;

private:
  /// Rows of one sequence whose tokens share a block.
  struct item {
    std::int32_t row;
    std::int32_t rows;
    std::int32_t position;  ///< of the first row
    std::int32_t block;
  };

  void store_heads(const rope_store_call& call, const item& work, const kernel_set& kernels) const;

  std::int32_t pairs_ = 0;
  bool interleaved_ = true;
  rope_table angles_;
  std::vector<item> items_;
};

}  // namespace troupe::kernels
