// Sequences with equal beginnings, found by sorting piece after piece. Knows block tables alone.
#include "kernels/cpu/shared_prefixes.hpp"

#include <algorithm>

namespace troupe::kernels {
namespace {

class prefix_search {
public:
  prefix_search(std::span<const sequence_rows> batch, shared_prefixes& into) : batch_(batch), into_(into) {}

  /// Members [first, last) of the order share all pieces before `piece`. Recurs at most once for each member, as each
  /// time some of them part.
  void split(std::int32_t first, std::int32_t last, std::int32_t piece) {
    std::int32_t* order = into_.order.data();
    const auto has = [&](std::int32_t s) { return whole_pieces(s) > piece; };
    const auto end = std::partition(order + first, order + last, has);
    for (const std::int32_t* s = end; s < order + last; ++s) own_from(*s) = piece;
    std::sort(order + first, end, [&](std::int32_t a, std::int32_t b) {
      return std::lexicographical_compare(blocks(a, piece), blocks(a, piece + 1),  //
                                          blocks(b, piece), blocks(b, piece + 1));
    });
    for (auto at = static_cast<std::int32_t>(first), some = at; at < end - order; at = some) {
      while (some < end - order && same(order[at], order[some], piece)) ++some;
      if (some == at + 1) own_from(order[at]) = piece;
      else take(at, some, piece);
    }
  }

private:
  /// Members [first, last) share this piece too, and maybe more.
  void take(std::int32_t first, std::int32_t last, std::int32_t piece) {
    const std::int32_t* order = into_.order.data();
    std::int32_t end = piece + 1;
    while (std::all_of(order + first, order + last, [&](std::int32_t s) { return same(order[first], s, end); })) ++end;
    into_.stretches.push_back({first, last - first, piece, end});
    split(first, last, end);
  }

  std::int32_t& own_from(std::int32_t s) { return into_.own_from[static_cast<std::size_t>(s)]; }
  const sequence_rows& sequence(std::int32_t s) const { return batch_[static_cast<std::size_t>(s)]; }
  std::int32_t whole_pieces(std::int32_t s) const { return sequence(s).past / piece_tokens; }
  const std::int32_t* blocks(std::int32_t s, std::int32_t piece) const {
    return sequence(s).blocks.data() + piece * piece_units;
  }
  bool same(std::int32_t a, std::int32_t b, std::int32_t piece) const {
    return whole_pieces(a) > piece && whole_pieces(b) > piece &&
           std::equal(blocks(a, piece), blocks(a, piece + 1), blocks(b, piece));
  }

  std::span<const sequence_rows> batch_;
  shared_prefixes& into_;
};

}  // namespace

void find_shared_prefixes(std::span<const sequence_rows> batch, std::int32_t most_rows, shared_prefixes& into) {
  into.order.clear();
  into.stretches.clear();
  into.own_from.assign(batch.size(), 0);
  for (std::size_t s = 0; s < batch.size(); ++s)
    if (batch[s].rows <= most_rows && batch[s].past >= piece_tokens) into.order.push_back(static_cast<std::int32_t>(s));
  if (into.order.size() > 1) prefix_search(batch, into).split(0, static_cast<std::int32_t>(into.order.size()), 0);
}

}  // namespace troupe::kernels
