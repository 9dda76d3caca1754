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

/// Holds the scratch memory of attention between calls. KV is cut every 128 tokens, at absolute positions; the pieces'
/// states are merged in order whether one thread or several made them, so bits depend on neither.
class attention_planner {
public:
  void run(const attention_call& call, std::span<const sequence_rows> batch, const kernel_set& kernels,
           thread_team& team);

private:
  /// A row of the step that attends.
  struct query_row {
    std::int32_t row;
    std::int32_t position;
  };
  /// Query vectors, rows [first_row, first_row + rows) of rows_ x heads of one KV head, that meet the same pieces.
  struct item {
    const std::int32_t* table = nullptr;
    std::int32_t first_row = 0;
    std::int32_t rows = 0;
    std::int32_t first_head = 0;  ///< query head
    std::int32_t heads = 0;
    std::int32_t units = 0;  ///< of the sequence that its last row sees
    std::int32_t vectors() const noexcept { return rows * heads; }
    std::int32_t pieces() const noexcept { return (units + piece_units - 1) / piece_units; }
    /// In units of about 40 ns: what a unit's bytes cost, and what a vector's arithmetic does.
    double cost(std::int32_t piece) const noexcept;
  };
  /// An item's pieces [first, last) on one thread. A part that is the whole item writes the output; else its states go
  /// to states_: one of all its pieces if they begin the sequence, otherwise one for each.
  struct part {
    std::int32_t item = 0;
    std::int32_t first = 0;
    std::int32_t last = 0;
    std::int64_t states = 0;
    bool whole = false;
    std::int32_t kept() const noexcept { return whole ? 0 : first == 0 ? 1 : last - first; }
  };
  /// One thread's own, for the vectors of one item.
  struct scratch {
    std::vector<std::int16_t> queries;
    std::vector<float> floats;
    std::vector<std::int32_t> seen;
  };

  void add_items(const attention_call& call, const sequence_rows& sequence, std::int32_t rows_at_once);
  void plan(const attention_call& call, std::span<const sequence_rows> batch, const thread_team& team, int threads);
  void cut(const thread_team& team, int threads);
  void add_part(std::int32_t item, std::int32_t first, std::int32_t last);
  attend_state state_of(float* at, const item& work) const noexcept;
  void quantise_queries(const attention_call& call, const item& work, const attention_kernels& kernels,
                        scratch& own) const;
  void attend_part(const attention_call& call, const part& mine, const attention_kernels& kernels, scratch& own);
  void merge_item(const attention_call& call, std::size_t first_part, const attention_kernels& kernels);
  void write_out(const attention_call& call, const item& work, const attend_state& state,
                 const attention_kernels& kernels) const;

  std::vector<query_row> rows_;
  std::vector<item> items_;
  std::vector<part> parts_;
  std::vector<std::size_t> first_part_;    ///< of each thread, and the end
  std::vector<std::size_t> split_;         ///< first parts of items that are cut
  std::vector<float> states_;
  std::vector<scratch> scratch_;
  std::int64_t dim_ = 0;
  std::int64_t kept_floats_ = 0;
};

}  // namespace troupe::kernels
