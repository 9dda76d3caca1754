// The plan of one attention op: which query vectors meet which stretch of KV, on which thread. Knows the arena's
// layout; the arithmetic is the kernel set's.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cpu/kernel_set.hpp"
#include "kernels/cpu/kv_arena.hpp"
#include "kernels/cpu/thread_team.hpp"
#include "kernels/lane.hpp"

namespace troupe::kernels {

struct attention_call {
  tensor_view qkv;
  std::int32_t heads = 0;
  float scale = 1.0f;
  std::int32_t layer = 0;
  const cpu_kv_arena* kv = nullptr;
  tensor_view out;
};

/// Holds the scratch memory of attention between calls. Long contexts are cut every 256 tokens, at absolute positions;
/// the pieces' states are merged in order whether one thread or several made them, so bits depend on neither.
class attention_planner {
public:
  void run(const attention_call& call, std::span<const sequence_rows> batch, const kernel_set& kernels,
           thread_team& team);

private:
  /// Up to max_vectors query vectors of one sequence and KV head: `rows` consecutive rows x `heads` query heads.
  struct item {
    const sequence_rows* sequence;
    std::int32_t row;  ///< first, within the sequence
    std::int32_t rows;
    std::int32_t kv_head;
    std::int32_t first_head;  ///< query head
    std::int32_t heads;
    std::int64_t state;  ///< offset of its states, one for each piece, when pieces are shared out
    std::int64_t first_piece;
    std::int32_t pieces() const noexcept;
    std::int32_t vectors() const noexcept { return rows * heads; }
  };

  void plan(const attention_call& call, std::span<const sequence_rows> batch, std::int32_t max_vectors);
  void attend_piece(const attention_call& call, const item& work, std::int32_t piece, const kernel_set& kernels,
                    float* queries, std::int32_t* positions, float* state) const;
  void write_out(const attention_call& call, const item& work, const float* state) const;
  void run_whole_items(const attention_call& call, const kernel_set& kernels, thread_team& team);
  void run_pieces(const attention_call& call, const kernel_set& kernels, thread_team& team);

  std::vector<item> items_;
  std::int64_t pieces_ = 0;
  std::int64_t state_size_ = 0;
  std::vector<float> queries_;  ///< a region for each thread
  std::vector<std::int32_t> positions_;
  std::vector<float> states_;
};

}  // namespace troupe::kernels
