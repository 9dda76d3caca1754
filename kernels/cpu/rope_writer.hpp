// The plan of one rope_store op: rotates Q and K of a step's rows and writes K and V to the arena. Knows the arena's
// layout; the arithmetic is the kernel set's.
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
  rope_shape rope;
  std::int32_t layer = 0;
  const cpu_kv_arena* kv = nullptr;
};

/// Holds the angles of a step, which are the same in every layer.
class rope_writer {
public:
  void run(const rope_store_call& call, std::span<const sequence_rows> batch, const kernel_set& kernels,
           thread_team& team);

private:
  /// Rows of one sequence whose tokens share a block: no two threads write to one block.
  struct item {
    const sequence_rows* sequence;
    std::int32_t row;  ///< first, within the sequence
    std::int32_t rows;
  };

  void plan(std::span<const sequence_rows> batch);
  void write(const rope_store_call& call, const item& work, const kernel_set& kernels) const;

  rope_table angles_;
  std::vector<item> items_;
};

}  // namespace troupe::kernels
