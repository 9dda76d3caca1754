// Cuts attention into items (rows x heads that share KV) and pieces of KV. Knows no instruction set.
#include "kernels/cpu/attention.hpp"

#include <algorithm>

namespace troupe::kernels {
namespace {

constexpr std::int32_t most_vectors = attention_kernels::most_vectors;
constexpr double log2_e = 1.4426950408889634;
constexpr double items_a_thread = 8;  // smaller ones where there would be fewer, for balance
constexpr double lone_item = 0.05;    // of a thread's share: not worth cutting

constexpr std::int64_t padded(std::int64_t vectors) noexcept { return (vectors + 15) / 16 * 16; }

/// Of a state of that many vectors.
constexpr std::int64_t state_floats(std::int64_t vectors, std::int64_t dim) noexcept {
  return 2 * padded(vectors) + vectors * dim;
}

}  // namespace

double attention_planner::item::cost(std::int32_t piece) const noexcept {
  return std::min(piece_units, units - piece * piece_units) * (12.0 + vectors());
}

attend_state attention_planner::state_of(float* at, const item& work) const noexcept {
  const std::int64_t vectors = padded(work.vectors());
  return {at, at + vectors, at + 2 * vectors};
}

void attention_planner::add_items(const attention_call& call, const sequence_rows& sequence, std::int32_t rows_at_once) {
  const std::int32_t group = call.heads / call.kv->shape.kv_heads;
  const std::int32_t heads_at_once = std::min(group, most_vectors);
  for (std::int32_t row = 0; row < sequence.rows;) {
    // Rows of one item see the same pieces.
    const std::int32_t position = sequence.past + row;
    const std::int32_t rows = std::min({rows_at_once, sequence.rows - row, piece_tokens - position % piece_tokens});
    const auto first_row = static_cast<std::int32_t>(rows_.size());
    for (std::int32_t r = 0; r < rows; ++r) rows_.push_back({sequence.first_row + row + r, position + r});
    const std::int32_t units = (position + rows + kv_unit::tokens - 1) / kv_unit::tokens;
    for (std::int32_t head = 0; head < call.heads;) {
      const std::int32_t heads = std::min(heads_at_once, (head / group + 1) * group - head);
      items_.push_back({sequence.blocks.data(), first_row, rows, head, heads, units});
      head += heads;
    }
    row += rows;
  }
}

void attention_planner::add_part(std::int32_t item, std::int32_t first, std::int32_t last) {
  part made{item, first, last, kept_floats_, first == 0 && last == items_[static_cast<std::size_t>(item)].pieces()};
  kept_floats_ += made.kept() * state_floats(items_[static_cast<std::size_t>(item)].vectors(), dim_);
  if (!made.whole && first == 0) split_.push_back(parts_.size());
  parts_.push_back(made);
}

// Every thread gets a stretch of the cost of all items by its weight; an item or a piece goes where its middle falls.
void attention_planner::cut(const thread_team& team, int threads) {
  double total = 0.0;
  for (const item& work : items_)
    for (std::int32_t piece = 0; piece < work.pieces(); ++piece) total += work.cost(piece);
  double done = 0.0;
  int thread = 0;
  constexpr std::int64_t scale = 1 << 20;
  const auto thread_of = [&](double cost) {
    const auto middle = static_cast<std::int64_t>((done + cost / 2) / total * scale);
    int to = thread;
    while (to + 1 < threads && middle >= team.share_of(scale, to, threads).last) ++to;
    return to;
  };
  const auto advance = [&](int to) {
    for (; thread < to; ++thread) first_part_.push_back(parts_.size());
  };
  for (std::size_t i = 0; i < items_.size(); ++i) {
    const item& work = items_[i];
    double whole = 0.0;
    for (std::int32_t piece = 0; piece < work.pieces(); ++piece) whole += work.cost(piece);
    if (whole < lone_item * total / threads) {
      advance(thread_of(whole));
      add_part(static_cast<std::int32_t>(i), 0, work.pieces());
      done += whole;
      continue;
    }
    std::int32_t first = 0;
    for (std::int32_t piece = 0; piece < work.pieces(); ++piece) {
      if (const int to = thread_of(work.cost(piece)); to > thread) {
        if (piece > first) add_part(static_cast<std::int32_t>(i), first, piece);
        first = piece;
        advance(to);
      }
      done += work.cost(piece);
    }
    add_part(static_cast<std::int32_t>(i), first, work.pieces());
  }
  advance(threads);
}

void attention_planner::plan(const attention_call& call, std::span<const sequence_rows> batch, const thread_team& team,
                             int threads) {
  rows_.clear();
  items_.clear();
  parts_.clear();
  split_.clear();
  kept_floats_ = 0;
  first_part_.assign(1, 0);
  std::int64_t rows = 0;
  for (const sequence_rows& sequence : batch) rows += sequence.rows;
  const std::int32_t group = call.heads / call.kv->shape.kv_heads;
  const std::int32_t most = std::max(1, most_vectors / group);
  const double fair = static_cast<double>(rows * call.kv->shape.kv_heads) / (items_a_thread * threads);
  const std::int32_t rows_at_once = threads == 1 ? most : std::clamp(static_cast<std::int32_t>(fair), 1, most);
  for (const sequence_rows& sequence : batch) add_items(call, sequence, rows_at_once);
  cut(team, threads);
}

void attention_planner::quantise_queries(const attention_call& call, const item& work, const attention_kernels& kernels,
                                         scratch& own) const {
  const std::int64_t dim = call.kv->shape.head_dim;
  const float factor = static_cast<float>(call.scale * log2_e);
  for (std::int32_t v = 0; v < work.vectors(); ++v) {
    const query_row& row = rows_[static_cast<std::size_t>(work.first_row + v / work.heads)];
    float* scale = own.floats.data() + v;
    kernels.quantise_query(call.qkv.f32(row.row) + (work.first_head + v % work.heads) * dim, call.kv->shape.head_dim,
                           own.queries.data() + v * dim_, scale);
    *scale *= factor;
  }
}

void attention_planner::attend_part(const attention_call& call, const part& mine, const attention_kernels& kernels,
                                    scratch& own) {
  const item& work = items_[static_cast<std::size_t>(mine.item)];
  const std::int32_t kv_head = work.first_head / (call.heads / call.kv->shape.kv_heads);
  quantise_queries(call, work, kernels, own);
  const std::byte* units[2][piece_units];
  const auto find = [&](std::int32_t piece) {
    const std::int32_t first = piece * piece_units;
    for (std::int32_t u = 0; u < std::min(piece_units, work.units - first); ++u)
      units[piece % 2][u] = call.kv->unit(work.table[first + u], call.layer, kv_head);
  };
  attend_args args;
  args.vectors = work.vectors();
  args.head_dim = call.kv->shape.head_dim;
  args.queries = own.queries.data();
  args.scales = own.floats.data();
  args.seen = own.seen.data();
  args.scores = own.floats.data() + most_vectors;
  float* state = mine.whole ? args.scores + most_vectors * piece_tokens : states_.data() + mine.states;
  find(mine.first);
  for (std::int32_t piece = mine.first; piece < mine.last; ++piece) {
    for (std::int32_t v = 0; v < work.vectors(); ++v) {
      const query_row& row = rows_[static_cast<std::size_t>(work.first_row + v / work.heads)];
      own.seen[static_cast<std::size_t>(v)] = std::min(piece_tokens, row.position + 1 - piece * piece_tokens);
    }
    const bool more = piece + 1 < mine.last && (piece + 2) * piece_units <= work.units;
    if (piece + 1 < mine.last) find(piece + 1);
    args.units = units[piece % 2];
    args.next = more ? units[(piece + 1) % 2] : nullptr;
    args.first = piece == mine.first || mine.first > 0;
    args.state = state_of(state, work);
    kernels.attend(args);
    if (mine.first > 0) state += state_floats(work.vectors(), dim_);
  }
  if (mine.whole) write_out(call, work, args.state, kernels);
}

void attention_planner::merge_item(const attention_call& call, std::size_t first_part, const attention_kernels& kernels) {
  const item& work = items_[static_cast<std::size_t>(parts_[first_part].item)];
  const attend_state into = state_of(states_.data() + parts_[first_part].states, work);
  for (std::size_t p = first_part + 1; p < parts_.size() && parts_[p].item == parts_[first_part].item; ++p)
    for (std::int32_t i = 0; i < parts_[p].kept(); ++i)
      kernels.merge(into, state_of(states_.data() + parts_[p].states + i * state_floats(work.vectors(), dim_), work),
                    work.vectors(), call.kv->shape.head_dim);
  write_out(call, work, into, kernels);
}

void attention_planner::write_out(const attention_call& call, const item& work, const attend_state& state,
                                  const attention_kernels& kernels) const {
  const std::int64_t dim = call.kv->shape.head_dim;
  for (std::int32_t v = 0; v < work.vectors(); ++v) {
    const query_row& row = rows_[static_cast<std::size_t>(work.first_row + v / work.heads)];
    kernels.divide(state.mixed + v * dim_, state.total[v], call.kv->shape.head_dim,
                   call.out.f32(row.row) + (work.first_head + v % work.heads) * dim);
  }
}

void attention_planner::run(const attention_call& call, std::span<const sequence_rows> batch, const kernel_set& kernels,
                            thread_team& team) {
  dim_ = kv_unit(call.kv->shape.head_dim).dim();
  const int shares = team.width();  // this round may have another number of members
  plan(call, batch, team, shares);
  if (items_.empty()) return;
  states_.resize(std::max(states_.size(), static_cast<std::size_t>(kept_floats_)));
  scratch_.resize(static_cast<std::size_t>(team.size()));
  for (scratch& own : scratch_) {
    own.queries.resize(static_cast<std::size_t>(most_vectors * dim_));
    own.floats.resize(static_cast<std::size_t>(most_vectors * (1 + piece_tokens) + state_floats(most_vectors, dim_)));
    own.seen.resize(most_vectors);
  }
  team.run([&](int thread, int threads) {
    for (int i = thread; i < shares; i += threads)
      for (std::size_t p = first_part_[static_cast<std::size_t>(i)]; p < first_part_[static_cast<std::size_t>(i) + 1]; ++p)
        attend_part(call, parts_[p], kernels.attention, scratch_[static_cast<std::size_t>(thread)]);
    if (split_.empty()) return;
    team.barrier();
    for (auto i = static_cast<std::size_t>(thread); i < split_.size(); i += static_cast<std::size_t>(threads))
      merge_item(call, split_[i], kernels.attention);
  });
}

}  // namespace troupe::kernels
