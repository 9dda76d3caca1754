// How products run over a thread team: who prepares which rows of the input, who multiplies which tiles with which
// tokens, and what is fused around them. Knows no op of a lane, no KV and no model.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/cpu/kernel_set.hpp"
#include "kernels/cpu/packed_tiles.hpp"
#include "kernels/cpu/product_ways.hpp"
#include "kernels/cpu/row_maxima.hpp"
#include "kernels/cpu/shared_items.hpp"
#include "kernels/cpu/thread_team.hpp"
#include "kernels/cpu/weight_store.hpp"
#include "memory/tensor_view.hpp"

namespace troupe::kernels {

/// out[token][row] (+)= x[token] . w[row], for what is made of x on the way.
struct product_call {
  const cpu_matrix* w = nullptr;
  tensor_view x;
  tensor_view out;
  bool add = false;
  const float* norm_weight = nullptr;  ///< null: x is not normed
  float eps = 0.0f;
  row_maxima* maxima = nullptr;  ///< of `out`, to be filled in; null: nobody wants them
  bool gated = false;            ///< x is [gate | up]: its rows are twice as long as the product's

  bool makes_rows() const noexcept { return norm_weight != nullptr || gated; }
};

/// Where one way of cutting a product ends and another begins. No bit depends on it. `crossovers_bench` sweeps it.
struct product_limits {
  std::int64_t lone_weight_bytes = 32 * 1024;     ///< below it a dispatch costs more than a second thread saves
  std::int64_t input_bytes_at_once = 512 * 1024;  ///< quantised rows that stay in L2 while tiles stream by
  /// Products of some tokens are short, and members take them piece by piece, so that all end at the same time. Few
  /// tokens wait for weights, streams that are better not cut; many tokens' inputs would be read again for each piece.
  std::int64_t least_dealt = 12, most_dealt = 64;

  constexpr bool deals(std::int64_t tokens) const noexcept { return tokens >= least_dealt && tokens <= most_dealt; }
};

/// Used by the thread that drives the team. Owns the prepared inputs, which grow to the largest call.
class product_runner {
public:
  /// All of them outlive it. `ways` say whose products are taken, and may change between calls; all else is `kernels`'.
  product_runner(const kernel_set& kernels, const product_ways& ways, thread_team& team, weight_store& weights,
                 product_limits limits = {})
      : kernels_(kernels), ways_(ways), team_(team), weights_(weights), limits_(limits), tiles_left_(team),
        columns_left_(team) {}

  /// One dispatch, with a barrier between preparing and multiplying where rows are many. Throws troupe::failure (io) if
  /// weights that are read from a file could not be.
  void run(const product_call& call);
  /// Whether run_joined may take these: gate and up repacked, and both matrices want their input as int8 alone.
  bool joins(const cpu_matrix& gate_up, const cpu_matrix& down) const noexcept;
  /// `down` of silu(gate) * up, where `first` makes gate and up and `second` is the product with down; their x is not
  /// read twice and gate and up are never whole in memory. One dispatch; first.out and second.x are not touched.
  void run_joined(const product_call& first, const product_call& second);

private:
  /// The rows of x made ready for a product: normed or gated if wanted, and quantised or rounded if a part needs it.
  struct prepared_rows {
    const kernel_set* kernels = nullptr;  ///< whose product reads them
    token_grouping grouping;
    float* made = nullptr;  ///< where a normed or gated row goes: with a stride of 0 no product reads it as floats
    const float* x = nullptr;
    std::int64_t x_stride = 0;
    std::int8_t* quants = nullptr;
    activation_block* blocks = nullptr;
    std::uint16_t* halves = nullptr;
  };

  std::int64_t groups_in_cache(token_grouping grouping, memory::dtype weights, std::int64_t cols) const noexcept;
  share columns_of(int thread, int threads, std::int64_t cols) const noexcept;
  void reserve_rows(const product_call& call, product_way way, std::int64_t copies);
  void reserve_joined(std::int64_t tokens, std::int64_t cols);
  prepared_rows rows_for(const product_call& call, product_way way, std::int64_t copy, int thread);
  void prepare(const product_call& call, const prepared_rows& rows, share tokens, share columns) const;
  void multiply(const product_call& call, const prepared_rows& rows, int thread, int threads);
  void deal_tiles(const product_call& call) noexcept;
  void multiply_part(const product_call& call, const prepared_rows& rows, const packed_part& part, tile_range tiles,
                     int thread);
  void take_maxima(const product_args& args, row_maxima& to) const;
  void multiply_and_join(const product_call& call, const prepared_rows& rows, const prepared_rows& to, share columns,
                         int thread);

  const kernel_set& kernels_;
  const product_ways& ways_;
  thread_team& team_;
  weight_store& weights_;
  product_limits limits_;
  shared_items tiles_left_;    ///< of the product's stack of tiles, `item_tiles` each
  shared_items columns_left_;  ///< of gate and up, quant_block each
  std::vector<float> made_;
  std::vector<std::int8_t> quants_;
  std::vector<activation_block> blocks_;
  std::vector<std::uint16_t> halves_;
  std::vector<std::int8_t> joined_quants_;
  std::vector<activation_block> joined_blocks_;
  std::vector<float> joined_;
  std::vector<std::byte> panels_;
};

}  // namespace troupe::kernels
