// Cuts attention into items (rows x heads that share KV) and pieces (256 tokens of KV). Knows no instruction set.
#include "kernels/cpu/attention.hpp"

#include <algorithm>

namespace troupe::kernels {
namespace {

constexpr std::int32_t block_tokens = kv_shape::block_tokens;
constexpr std::int32_t piece_blocks = 16;
constexpr std::int32_t piece_tokens = piece_blocks * block_tokens;

}  // namespace

std::int32_t attention_planner::item::pieces() const noexcept {
  return (sequence->past + row + rows + piece_tokens - 1) / piece_tokens;
}

void attention_planner::plan(const attention_call& call, std::span<const sequence_rows> batch,
                             std::int32_t max_vectors) {
  items_.clear();
  pieces_ = 0;
  const std::int32_t group = call.heads / call.kv->shape.kv_heads;
  const std::int32_t heads_at_once = std::min(group, max_vectors);
  const std::int32_t rows_at_once = std::max(1, max_vectors / heads_at_once);
  state_size_ = call.kv->shape.head_dim + 2;
  std::int64_t state = 0;
  for (const sequence_rows& sequence : batch)
    for (std::int32_t row = 0; row < sequence.rows; row += rows_at_once)
      for (std::int32_t head = 0; head < call.heads;) {
        const std::int32_t kv_head = head / group;
        const std::int32_t heads = std::min(heads_at_once, (kv_head + 1) * group - head);
        items_.push_back(
            {&sequence, row, std::min(rows_at_once, sequence.rows - row), kv_head, head, heads, state, pieces_});
        pieces_ += items_.back().pieces();
        state += items_.back().pieces() * items_.back().vectors() * state_size_;
        head += heads;
      }
}

void attention_planner::attend_piece(const attention_call& call, const item& work, std::int32_t piece,
                                     const kernel_set& kernels, float* queries, std::int32_t* positions,
                                     float* state) const {
  const std::int32_t dim = call.kv->shape.head_dim;
  const sequence_rows& sequence = *work.sequence;
  for (std::int32_t r = 0; r < work.rows; ++r) {
    const float* q = call.qkv.f32(sequence.first_row + work.row + r) + std::int64_t{work.first_head} * dim;
    float* to = queries + std::int64_t{r} * work.heads * dim;
    for (std::int32_t i = 0; i < work.heads * dim; ++i) to[i] = q[i] * call.scale;
    std::fill_n(positions + r * work.heads, work.heads, sequence.past + work.row + r);
  }
  attend_args args;
  args.queries = queries;
  args.positions = positions;
  args.vectors = work.vectors();
  args.head_dim = dim;
  args.arena = call.kv->head(call.layer, work.kv_head);
  args.block_stride = call.kv->block_stride();
  args.table = sequence.blocks.data();
  args.tokens = sequence.past + work.row + work.rows;
  args.first_block = piece * piece_blocks;
  args.last_block = std::min((piece + 1) * piece_blocks, (args.tokens + block_tokens - 1) / block_tokens);
  args.state = state;
  kernels.attend(args);
}

void attention_planner::write_out(const attention_call& call, const item& work, const float* state) const {
  const std::int32_t dim = call.kv->shape.head_dim;
  for (std::int32_t r = 0; r < work.rows; ++r) {
    float* out = call.out.f32(work.sequence->first_row + work.row + r) + std::int64_t{work.first_head} * dim;
    for (std::int32_t h = 0; h < work.heads; ++h, state += state_size_, out += dim) {
      const float inverse = 1.0f / state[1];
      for (std::int32_t d = 0; d < dim; ++d) out[d] = state[2 + d] * inverse;
    }
  }
}

void attention_planner::run_whole_items(const attention_call& call, const kernel_set& kernels, thread_team& team) {
  const std::int64_t vectors = kernels.max_vectors;
  const std::int64_t dim = call.kv->shape.head_dim;
  states_.resize(static_cast<std::size_t>(team.size() * 2 * vectors * state_size_));
  team.run([&](int thread, int threads) {
    float* queries = queries_.data() + thread * vectors * dim;
    std::int32_t* positions = positions_.data() + thread * vectors;
    float* state = states_.data() + thread * 2 * vectors * state_size_;
    float* next = state + vectors * state_size_;
    // Dealt out like cards: later rows see more tokens, so a run of items would be unequal.
    for (std::size_t i = static_cast<std::size_t>(thread); i < items_.size(); i += static_cast<std::size_t>(threads)) {
      const item& work = items_[i];
      for (std::int32_t piece = 0; piece < work.pieces(); ++piece) {
        attend_piece(call, work, piece, kernels, queries, positions, piece == 0 ? state : next);
        if (piece > 0) kernels.merge(state, next, work.vectors(), call.kv->shape.head_dim);
      }
      write_out(call, work, state);
    }
  });
}

void attention_planner::run_pieces(const attention_call& call, const kernel_set& kernels, thread_team& team) {
  const std::int64_t vectors = kernels.max_vectors;
  const std::int64_t dim = call.kv->shape.head_dim;
  const item& last = items_.back();
  states_.resize(static_cast<std::size_t>(last.state + std::int64_t{last.pieces()} * last.vectors() * state_size_));
  const auto state_of = [&](const item& work, std::int32_t piece) {
    return states_.data() + work.state + std::int64_t{piece} * work.vectors() * state_size_;
  };
  team.run([&](int thread, int threads) {
    float* queries = queries_.data() + thread * vectors * dim;
    std::int32_t* positions = positions_.data() + thread * vectors;
    const share mine = team.share_of(pieces_, thread, threads);
    for (const item& work : items_)
      for (std::int32_t piece = 0; piece < work.pieces(); ++piece)
        if (work.first_piece + piece >= mine.first && work.first_piece + piece < mine.last)
          attend_piece(call, work, piece, kernels, queries, positions, state_of(work, piece));
    team.barrier();
    for (std::size_t i = static_cast<std::size_t>(thread); i < items_.size(); i += static_cast<std::size_t>(threads)) {
      const item& work = items_[i];
      for (std::int32_t piece = 1; piece < work.pieces(); ++piece)
        kernels.merge(state_of(work, 0), state_of(work, piece), work.vectors(), call.kv->shape.head_dim);
      write_out(call, work, state_of(work, 0));
    }
  });
}

void attention_planner::run(const attention_call& call, std::span<const sequence_rows> batch, const kernel_set& kernels,
                            thread_team& team) {
  plan(call, batch, kernels.max_vectors);
  if (items_.empty()) return;
  const auto regions = static_cast<std::size_t>(team.size() * kernels.max_vectors);
  queries_.resize(regions * static_cast<std::size_t>(call.kv->shape.head_dim));
  positions_.resize(regions);
  // Few items with long contexts leave threads idle unless their pieces are shared out; many items need no barrier.
  const bool few = static_cast<std::int64_t>(items_.size()) < 16ll * team.size();
  if (team.size() > 1 && few && pieces_ > static_cast<std::int64_t>(items_.size()))
    run_pieces(call, kernels, team);
  else
    run_whole_items(call, kernels, team);
}

}  // namespace troupe::kernels
