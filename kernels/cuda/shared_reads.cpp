// From equal beginnings of block tables to works of equal size. Knows no device.
#include "kernels/cuda/shared_reads.hpp"

#include <algorithm>

#include "kernels/cpu/kv_unit.hpp"

namespace troupe::kernels::cuda {
namespace {

static_assert(shared_piece == piece_tokens);

/// Tokens that a stretch must save, all its sequences together: each has results to be merged.
constexpr std::int32_t least_saved_tokens = 512;

}  // namespace

void shared_reads::find(std::span<const sequence_rows> batch, std::span<const std::int32_t> changed_from,
                        const shared_shape& shape) {
  if (known(batch, changed_from, shape)) return;
  shape_ = shape;
  own_.assign(batch.size(), {0, 0});
  items_.clear();
  seats_.clear();
  if (may_share(batch)) {
    find_shared_prefixes(batch, 1, found_);
    choose(batch.size());
    make_items();
  }
  known_.clear();
  for (std::size_t s = 0; s < batch.size(); ++s)
    known_.push_back({batch[s].rows == 1, (own_[s].from + piece_tokens) / kv_shape::block_tokens});
}

bool shared_reads::known(std::span<const sequence_rows> batch, std::span<const std::int32_t> changed_from,
                         const shared_shape& shape) const {
  if (batch.size() != known_.size() || shape != shape_) return false;
  for (std::size_t s = 0; s < batch.size(); ++s)
    if (changed_from[s] < known_[s].until || (batch[s].rows == 1) != known_[s].single || batch[s].past < own_[s].from)
      return false;
  return true;
}

/// Whether any two begin with the same block.
bool shared_reads::may_share(std::span<const sequence_rows> batch) {
  first_blocks_.clear();
  for (const sequence_rows& one : batch)
    if (one.rows == 1 && one.past >= piece_tokens) first_blocks_.push_back(one.blocks.front());
  std::sort(first_blocks_.begin(), first_blocks_.end());
  return std::adjacent_find(first_blocks_.begin(), first_blocks_.end()) != first_blocks_.end();
}

void shared_reads::choose(std::size_t sequences) {
  chosen_.clear();
  std::int64_t saved = 0;
  std::int32_t seats = 0;
  for (const shared_stretch& stretch : found_.stretches) {
    const auto members = std::span(found_.order)
                             .subspan(static_cast<std::size_t>(stretch.first), static_cast<std::size_t>(stretch.count));
    const std::int32_t from = own_[static_cast<std::size_t>(members[0])].from,
                       to = stretch.last_piece * piece_tokens;  // `from` is that of all
    const std::int64_t tokens = std::int64_t{stretch.count - 1} * (to - from);
    if (tokens < least_saved_tokens || seats + stretch.count > most_seats(static_cast<std::int32_t>(sequences)))
      continue;
    seats += stretch.count;
    saved += tokens;
    chosen_.push_back({stretch.first, stretch.count, from, to});
    for (const std::int32_t s : members) own_[static_cast<std::size_t>(s)].from = to;
  }
  if (saved * shape_.kv_heads * shape_.head_dim * 4 >= shape_.least_saved_bytes) return;
  chosen_.clear();
  own_.assign(sequences, {0, 0});
}

/// Stretches are split so that there are about as many works as the device does at once, and no more results than that
/// needs.
void shared_reads::make_items() {
  const std::int32_t seats_an_item = shared_tile_rows * shape_.kv_heads / shape_.heads;
  const auto runs_of = [&](const chosen& c) { return (c.count + seats_an_item - 1) / seats_an_item; };
  std::int64_t pieces = 0;
  for (const chosen& c : chosen_) pieces += std::int64_t{runs_of(c)} * ((c.to - c.from) / piece_tokens);
  const auto each = static_cast<std::int32_t>(
                        std::max<std::int64_t>(1, (pieces * shape_.kv_heads + shape_.works - 1) / shape_.works)) *
                    piece_tokens;
  for (const chosen& c : chosen_) {
    const std::int32_t splits = (c.to - c.from + each - 1) / each,
                       first_seat = static_cast<std::int32_t>(seats_.size());
    for (std::int32_t i = c.first; i < c.first + c.count; ++i) {
      const std::int32_t s = found_.order[static_cast<std::size_t>(i)];
      auto& results = own_[static_cast<std::size_t>(s)].results;
      seats_.push_back({s, results});
      results += splits;
    }
    for (std::int32_t split = 0; split < splits; ++split)
      for (std::int32_t run = 0; run < runs_of(c); ++run) {
        const std::int32_t seat = run * seats_an_item, first = c.from + split * each;
        items_.push_back({first_seat + seat,
                          std::min(seats_an_item, c.count - seat),
                          seats_[static_cast<std::size_t>(first_seat)].sequence,
                          first,
                          std::min(each, c.to - first),
                          split,
                          {}});
      }
  }
}

}  // namespace troupe::kernels::cuda
