// How products with weights of a type are computed, by the number of rows of activations: with which instruction set's
// kernels, and how many rows at once. The fastest, from costs that were measured on this machine. Knows no clock, no
// thread and no file.
//
// What may be mixed: all sets read one layout of tiles, and of quantised types all give the same bits (whole-number dot
// products within a block, one chain of fma over the blocks: product_args), so that the set may change with the number
// of rows. Products with float weights round differently in each set (bf16 dot products, tiles of them): one set serves
// all rows of a matrix, whatever their number. How many rows are taken at once moves no bit in any set. So a row's bits
// never depend on the batch, and with one choice they are the same on every run.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cpu/isa.hpp"
#include "kernels/cpu/packed_tiles.hpp"
#include "memory/tensor_view.hpp"

namespace troupe::kernels {

struct product_way {
  isa set = isa::scalar;
  std::int32_t together = 0;  ///< rows of activations that are usually multiplied at once: token_grouping

  bool operator==(const product_way&) const = default;
};

/// The set's own way.
product_way way_of(isa set) noexcept;

/// What the machine has of `best` and the sets before it.
std::vector<isa> usable_sets(isa best);

/// What a product with `rows` rows of activations took.
struct way_cost {
  memory::dtype type = memory::dtype::f32;
  std::int32_t rows = 0;
  product_way way;
  std::int64_t nanoseconds = 0;  ///< for 2^20 weights

  bool operator==(const way_cost&) const = default;
};

/// Costs are known for these numbers of rows; each stands for all up to the next.
inline constexpr std::array<std::int32_t, 8> costed_rows{1, 2, 4, 8, 16, 24, 32, 64};

/// What is worth measuring for products with `rows` rows, where sets of `usable` (plain to best) may be executed: not
/// the scalar set where there is another, no set whose products of this type are another's code, and another number of
/// rows at once only where there are rows enough for it to matter.
std::vector<product_way> ways_for(memory::dtype type, std::int32_t rows, std::span<const isa> usable);

/// A plain value; asking costs some comparisons.
class product_ways {
public:
  /// What is right without measuring: the way of `best` for everything, but that the tiles of amx are for BF16 weights.
  explicit product_ways(isa best) noexcept;
  /// The fastest by `costs`. Another way than the unmeasured one has to be clearly faster; where costs are missing,
  /// nothing changes; those of ways that ways_for does not name are passed over.
  product_ways(isa best, std::span<const way_cost> costs, std::span<const isa> usable);

  product_way way(memory::dtype type, std::int64_t rows) const noexcept;
  /// Of parts of several types the largest decides; where some are floats, the largest of those.
  product_way way(const cpu_matrix& w, std::int64_t rows) const noexcept;
  /// This way for products with `type` and so many rows as costed_rows[at] stands for; the set of a float type, for
  /// all.
  void set(memory::dtype type, std::size_t at, product_way way) noexcept;

  bool operator==(const product_ways&) const = default;

private:
  std::array<std::array<product_way, costed_rows.size()>, static_cast<std::size_t>(memory::dtype::i32)>
      ways_;  ///< by type
};

}  // namespace troupe::kernels
