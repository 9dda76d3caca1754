// Compares costs.
#include "kernels/cpu/product_ways.hpp"

#include <algorithm>
#include <limits>

#include "kernels/cpu/kernel_set.hpp"

namespace troupe::kernels {
namespace {

using memory::dtype;

// What a measurement of a busy machine may be wrong by. Another set for floats changes bits: for a little gain it is
// not worth that.
constexpr double clearly = 0.96, clearly_of_floats = 0.85;

/// Whether products of `type` in `one` are those of `other`, compiled twice.
bool same_code(dtype type, isa one, isa other) noexcept {
  if (one == isa::avx512vnni && other == isa::avx512bf16) return type != dtype::bf16;
  if (one == isa::amx && other == isa::avx512bf16) return !is_quantised(type) && type != dtype::bf16;
  return one == isa::avx2 && other == isa::avx_vnni && !is_quantised(type);
}

/// The sets worth measuring.
std::vector<isa> sets_for(dtype type, std::span<const isa> usable) {
  std::vector<isa> sets;
  for (const isa one : usable) {
    const auto other = [&](isa than) { return same_code(type, one, than); };
    if ((one != isa::scalar || usable.size() == 1) && std::none_of(usable.begin(), usable.end(), other))
      sets.push_back(one);
  }
  return sets;
}

/// Only those of ways that can be taken.
struct costs_of_type {
  std::vector<way_cost> all;

  /// 0: not known.
  double of(std::size_t at, product_way way) const noexcept {
    for (const way_cost& one : all)
      if (one.rows == costed_rows[at] && one.way == way) return static_cast<double>(one.nanoseconds);
    return 0;
  }
  /// The fastest for so many rows, among those that `fits` takes; `usual` where none is clearly faster.
  template <class Fits>
  product_way best(std::size_t at, product_way usual, const Fits& fits) const noexcept {
    product_way chosen = usual;
    double least = of(at, usual) * clearly;
    for (const way_cost& one : all)
      if (one.rows == costed_rows[at] && fits(one.way) && static_cast<double>(one.nanoseconds) < least) {
        least = static_cast<double>(one.nanoseconds);
        chosen = one.way;
      }
    return chosen;
  }
  /// The set that is best for all numbers of rows, each counting the same.
  isa best_for_all(isa usual) const noexcept {
    isa chosen = usual;
    double least = clearly_of_floats;
    for (const way_cost& one : all) {
      double sum = 0;
      for (std::size_t at = 0; at < costed_rows.size(); ++at) {
        const double mine = of(at, way_of(one.way.set)), other = of(at, way_of(usual));
        sum += mine > 0 && other > 0 ? mine / other : std::numeric_limits<double>::infinity();
      }
      if (sum / static_cast<double>(costed_rows.size()) >= least) continue;
      least = sum / static_cast<double>(costed_rows.size());
      chosen = one.way.set;
    }
    return chosen;
  }
};

}  // namespace

product_way way_of(isa set) noexcept { return {set, static_cast<std::int32_t>(kernels_for(set).grouping.usual)}; }

std::vector<isa> usable_sets(isa best) {
  auto sets = available_isas();
  std::erase_if(sets, [best](isa one) { return one > best; });
  return sets;
}

std::vector<product_way> ways_for(dtype type, std::int32_t rows, std::span<const isa> usable) {
  std::vector<product_way> ways;
  for (const isa set : sets_for(type, usable)) {
    const product_way own = way_of(set);
    const auto largest = static_cast<std::int32_t>(kernels_for(set).grouping.largest);
    ways.push_back(own);
    const bool matters = rows > 2 * largest && own.together < largest && set != isa::scalar;
    for (std::int32_t together = largest / 2; together <= largest && matters; together += 2)
      if (together != own.together) ways.push_back({set, together});
  }
  return ways;
}

product_ways::product_ways(isa best) noexcept {
  // Tiles take blocks of 32 columns one by one: on a Xeon of 2023 no number of rows made that worth it.
  for (auto& of_type : ways_) of_type.fill(way_of(best == isa::amx ? isa::avx512bf16 : best));
  set(dtype::bf16, 0, way_of(best));
}

product_ways::product_ways(isa best, std::span<const way_cost> costs, std::span<const isa> usable)
    : product_ways(best) {
  for (std::size_t i = 0; i < ways_.size(); ++i) {
    const auto type = static_cast<dtype>(i);
    costs_of_type known;
    for (const way_cost& one : costs) {
      if (one.type != type || one.nanoseconds <= 0) continue;
      const auto ways = ways_for(type, one.rows, usable);
      if (std::find(ways.begin(), ways.end(), one.way) != ways.end()) known.all.push_back(one);
    }
    const bool mixes = is_quantised(type);
    const isa for_all = known.best_for_all(ways_[i].front().set);
    for (std::size_t at = 0; at < costed_rows.size(); ++at) {
      const product_way usual = mixes ? ways_[i][at] : way_of(for_all);
      ways_[i][at] = known.best(at, usual, [&](product_way way) { return mixes || way.set == for_all; });
    }
  }
}

product_way product_ways::way(dtype type, std::int64_t rows) const noexcept {
  std::size_t at = 0;
  while (at + 1 < costed_rows.size() && costed_rows[at + 1] <= rows) ++at;
  return ways_[static_cast<std::size_t>(type)][at];
}

product_way product_ways::way(const cpu_matrix& w, std::int64_t rows) const noexcept {
  const packed_part* most = nullptr;
  const auto weight = [](const packed_part& part) {
    return part.source.rows + (is_quantised(part.source.type) ? 0 : std::numeric_limits<std::int64_t>::max() / 2);
  };
  for (const packed_part& part : w.parts)
    if (most == nullptr || weight(part) > weight(*most)) most = &part;
  return way(most->source.type, rows);
}

void product_ways::set(dtype type, std::size_t at, product_way way) noexcept {
  auto& ways = ways_[static_cast<std::size_t>(type)];
  if (!is_quantised(type))
    for (product_way& one : ways)
      if (one.set != way.set) one = way_of(way.set);
  ways[at] = way;
}

}  // namespace troupe::kernels
