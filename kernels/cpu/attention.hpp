// One attention op: carries out an attention_plan on a team. Knows the arena's layout; the arithmetic is the kernel
// set's.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kernels/cpu/attention_plan.hpp"
#include "kernels/cpu/kernel_set.hpp"
#include "kernels/cpu/kv_arena.hpp"
#include "kernels/cpu/rope_writer.hpp"
#include "kernels/cpu/shared_items.hpp"
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
  const rope_writer* rope = nullptr;  ///< prepared for the step: Q is still to be turned, K and V to be stored
};

/// Holds the plan and the scratch memory of attention between calls.
class attention_runner {
public:
  void run(const attention_call& call, std::span<const sequence_rows> batch, const kernel_set& kernels,
           thread_team& team);
  /// Bytes of K and V that the calls so far have read; those of a piece count once for each item that reads it.
  std::int64_t bytes_read() const noexcept { return bytes_read_; }

private:
  using item = attention_plan::item;
  using part = attention_plan::part;
  /// One thread's own, for the vectors of one item.
  struct scratch {
    std::vector<std::int16_t> queries;
    std::vector<float> floats;
    std::vector<float> head;
    std::vector<std::int32_t> seen;
  };

  const attention_plan::query_row& row_of(const item& work, std::int32_t vector) const noexcept {
    return plan_.rows()[static_cast<std::size_t>(work.first_row + vector / work.heads)];
  }
  static std::int32_t kv_head_of(const attention_call& call, const item& work) noexcept {
    return work.first_head / (call.heads / call.kv->shape.kv_heads);
  }
  void reserve(const thread_team& team);
  void store_rows(const attention_call& call, const item& work, const kernel_set& kernels) const;
  void store_parts(const attention_call& call, std::span<const part> parts, const kernel_set& kernels) const;
  void quantise_queries(const attention_call& call, const item& work, const kernel_set& kernels, scratch& own) const;
  bool stores_rows(const part& mine) const noexcept;
  void fetch_last_unit(const attention_call& call, const part& mine) const;
  void find_units(const attention_call& call, const item& work, std::int32_t piece,
                  const std::byte* (&units)[piece_units]) const;
  /// `then`: what the thread does next, or null.
  void attend_part(const attention_call& call, const part& mine, const part* then, const kernel_set& kernels,
                   scratch& own);
  void join_parts(const attention_call& call, const item& work, const attention_kernels& kernels);
  void write_out(const attention_call& call, const item& work, const attend_state& state,
                 const attention_kernels& kernels) const;

  attention_plan plan_;
  std::vector<float> states_;
  std::vector<scratch> scratch_;
  std::optional<shared_items> parts_left_;  ///< of the plan, that no thread has taken yet
  std::int64_t dim_ = 0;
  std::int64_t unit_bytes_ = 0;
  std::int64_t bytes_read_ = 0;
};

}  // namespace troupe::kernels
