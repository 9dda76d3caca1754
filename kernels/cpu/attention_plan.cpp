// Cuts attention into items (rows x heads that share KV) and pieces of KV. Knows no arena and no arithmetic.
#include "kernels/cpu/attention_plan.hpp"

#include <algorithm>

namespace troupe::kernels {
namespace {

constexpr std::int32_t most_vectors = attention_kernels::most_vectors;
constexpr double items_a_thread = 8;  // smaller ones where there would be fewer, for balance
constexpr double lone_item = 0.05;    // of a thread's share: not worth cutting

/// In cycles of AVX-512: of what an item does once, to its vectors and rows; then of a piece, the longer of reading its
/// units from the last cache and computing with them.
double cost_of(const attention_plan::item& work, std::int32_t piece) noexcept {
  const double units = std::min(piece_units, work.units - piece * piece_units), vectors = work.vectors();
  const double once = piece == work.first_piece ? 600 + 300 * vectors : 0;
  return once + std::max(425 * units, 420 + 45 * vectors + (40 + 42 * vectors) * units);
}

std::int64_t used_blocks(const sequence_rows& s) noexcept {
  return (std::int64_t{s.past} + s.rows + kv_unit::tokens - 1) / kv_unit::tokens;
}

}  // namespace

share attention_plan::share_of(int thread) const noexcept {
  const auto at = static_cast<std::size_t>(thread);
  return {static_cast<std::int64_t>(first_part_[at]), static_cast<std::int64_t>(first_part_[at + 1])};
}

bool attention_plan::planned(std::span<const sequence_rows> batch) const noexcept {
  if (batch.size() != batch_.size()) return false;
  for (std::size_t s = 0; s < batch.size(); ++s) {
    const sequence_rows& now = batch[s];
    const sequence_rows& then = batch_[s];
    if (now.first_row != then.first_row || now.rows != then.rows || now.past != then.past) return false;
    const auto table = tables_.begin();
    if (!std::equal(table + first_block_[s], table + first_block_[s + 1], now.blocks.begin())) return false;
  }
  return true;
}

void attention_plan::remember(std::span<const sequence_rows> batch) {
  batch_.assign(batch.begin(), batch.end());
  tables_.clear();
  first_block_.assign(1, 0);
  for (sequence_rows& s : batch_) {
    tables_.insert(tables_.end(), s.blocks.begin(), s.blocks.begin() + used_blocks(s));
    first_block_.push_back(static_cast<std::int64_t>(tables_.size()));
    s.blocks = {};
  }
}

// One for each run of heads.
void attention_plan::add_items(item made) {
  const std::int32_t group = shape_.heads / shape_.kv_heads;
  for (std::int32_t head = 0; head < shape_.heads; ++made.run) {
    made.first_head = head;
    made.heads = std::min(std::min(group, most_vectors), (head / group + 1) * group - head);
    items_.push_back(made);
    head += made.heads;
  }
}

// As many sequences to an item as attend takes at once.
void attention_plan::add_shared(std::span<const sequence_rows> batch) {
  const std::int32_t most_rows = std::max(1, most_vectors * shape_.kv_heads / shape_.heads);
  find_shared_prefixes(batch, most_rows, shared_);
  for (const shared_stretch& stretch : shared_.stretches)
    for (std::int32_t at = stretch.first; at < stretch.first + stretch.count;) {
      item made;
      made.shared = true;
      made.table = first_block_[static_cast<std::size_t>(shared_.order[static_cast<std::size_t>(at)])];
      made.first_row = static_cast<std::int32_t>(rows_.size());
      made.first_piece = stretch.first_piece;
      made.units = stretch.last_piece * piece_units;
      for (; at < stretch.first + stretch.count; ++at) {
        const std::int32_t number = shared_.order[static_cast<std::size_t>(at)];
        const sequence_rows& sequence = batch_[static_cast<std::size_t>(number)];
        if (made.rows + sequence.rows > most_rows) break;
        seats_.push_back({number, static_cast<std::int32_t>(items_.size()), made.rows});
        for (std::int32_t r = 0; r < sequence.rows; ++r) rows_.push_back({sequence.first_row + r, sequence.past + r});
        made.rows += sequence.rows;
      }
      add_items(made);
    }
  std::stable_sort(seats_.begin(), seats_.end(), [](const seat& a, const seat& b) { return a.sequence < b.sequence; });
}

void attention_plan::add_own(std::size_t number, std::int32_t rows_at_once) {
  const sequence_rows& sequence = batch_[number];
  const auto seats = std::equal_range(seats_.begin(), seats_.end(), seat{static_cast<std::int32_t>(number), 0, 0},
                                      [](const seat& a, const seat& b) { return a.sequence < b.sequence; });
  item made;
  made.table = first_block_[number];
  made.first_piece = shared_.own_from[number];
  made.first_seat = static_cast<std::int32_t>(seats.first - seats_.begin());
  made.seats = static_cast<std::int32_t>(seats.second - seats.first);
  for (std::int32_t row = 0; row < sequence.rows; row += made.rows) {
    // Rows of one item see the same pieces.
    const std::int32_t position = sequence.past + row;
    made.rows = std::min({rows_at_once, sequence.rows - row, piece_tokens - position % piece_tokens});
    made.first_row = static_cast<std::int32_t>(rows_.size());
    made.row_of_sequence = row;
    made.units = (position + made.rows + kv_unit::tokens - 1) / kv_unit::tokens;
    for (std::int32_t r = 0; r < made.rows; ++r) rows_.push_back({sequence.first_row + row + r, position + r});
    add_items(made);
  }
}

void attention_plan::add_part(std::int32_t number, std::int32_t first, std::int32_t last) {
  item& work = items_[static_cast<std::size_t>(number)];
  if (first == work.first_piece) work.first_part = static_cast<std::int32_t>(parts_.size());
  const bool whole = !work.shared && work.seats == 0 && first == 0 && last == work.last_piece();
  const part made{number, first, last, kept_floats_, whole};
  kept_floats_ += made.kept() * state_floats(work.vectors(), shape_.dim);
  parts_.push_back(made);
  work.last_part = static_cast<std::int32_t>(parts_.size());
}

// Every thread gets a stretch of the cost of all items by its weight; an item or a piece goes where its middle falls.
void attention_plan::cut(const thread_team& team) {
  double total = 0.0;
  for (const item& work : items_)
    for (std::int32_t piece = work.first_piece; piece < work.last_piece(); ++piece) total += cost_of(work, piece);
  double done = 0.0;
  int thread = 0;
  constexpr std::int64_t scale = 1 << 20;
  const auto thread_of = [&](double cost) {
    const auto middle = static_cast<std::int64_t>((done + cost / 2) / total * scale);
    int to = thread;
    while (to + 1 < threads_ && middle >= team.share_of(scale, to, threads_).last) ++to;
    return to;
  };
  const auto advance = [&](int to) {
    for (; thread < to; ++thread) first_part_.push_back(parts_.size());
  };
  for (std::size_t i = 0; i < items_.size(); ++i) {
    const item& work = items_[i];
    double whole = 0.0;
    for (std::int32_t piece = work.first_piece; piece < work.last_piece(); ++piece) whole += cost_of(work, piece);
    if (whole < lone_item * total / threads_) {
      advance(thread_of(whole));
      add_part(static_cast<std::int32_t>(i), work.first_piece, work.last_piece());
      done += whole;
      continue;
    }
    std::int32_t first = work.first_piece;
    for (std::int32_t piece = first; piece < work.last_piece(); ++piece) {
      if (const int to = thread_of(cost_of(work, piece)); to > thread) {
        if (piece > first) add_part(static_cast<std::int32_t>(i), first, piece);
        first = piece;
        advance(to);
      }
      done += cost_of(work, piece);
    }
    add_part(static_cast<std::int32_t>(i), first, work.last_piece());
  }
  advance(threads_);
}

bool attention_plan::find_rows_apart() const noexcept {
  std::size_t own = 0, runs = 0;
  for (const item& i : items_) own += i.shared ? 0 : 1;
  for (const sequence_rows& s : batch_) runs += s.rows > 0 ? 1 : 0;
  if (own != runs * static_cast<std::size_t>(shape_.kv_heads)) return false;
  // A block that is written to may be in another's table already, there at the same place.
  for (std::size_t s = 0; s < batch_.size(); ++s)
    for (std::int64_t at = batch_[s].past / kv_unit::tokens; at < used_blocks(batch_[s]); ++at)
      for (std::size_t other = 0; other < batch_.size(); ++other)
        if (other != s && first_block_[other] + at < first_block_[other + 1] &&
            *(tables_.begin() + first_block_[other] + at) == *(tables_.begin() + first_block_[s] + at))
          return false;
  return true;
}

void attention_plan::prepare(const attention_shape& shape, std::span<const sequence_rows> batch,
                             const thread_team& team, int threads) {
  if (shape == shape_ && threads == threads_ && planned(batch)) return;
  shape_ = shape;
  threads_ = threads;
  remember(batch);
  rows_.clear();
  items_.clear();
  seats_.clear();
  parts_.clear();
  joined_.clear();
  kept_floats_ = 0;
  units_read_ = 0;
  first_part_.assign(1, 0);
  std::int64_t rows = 0;
  for (const sequence_rows& sequence : batch) rows += sequence.rows;
  const std::int32_t group = shape.heads / shape.kv_heads;
  const std::int32_t most = std::max(1, most_vectors / group);
  const double fair = static_cast<double>(rows * shape.kv_heads) / (items_a_thread * threads);
  const std::int32_t rows_at_once = threads == 1 ? most : std::clamp(static_cast<std::int32_t>(fair), 1, most);
  add_shared(batch);
  for (std::size_t s = 0; s < batch.size(); ++s) add_own(s, rows_at_once);
  cut(team);
  rows_apart_ = find_rows_apart();
  for (std::size_t i = 0; i < items_.size(); ++i) {
    units_read_ += items_[i].units - items_[i].first_piece * piece_units;
    if (items_[i].joins_parts()) joined_.push_back(static_cast<std::int32_t>(i));
  }
}

}  // namespace troupe::kernels
