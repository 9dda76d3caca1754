// Runs the parts of a plan and joins their states. Knows no instruction set.
#include "kernels/cpu/attention.hpp"

#include <algorithm>

namespace troupe::kernels {
namespace {

constexpr std::int32_t most_vectors = attention_kernels::most_vectors;
constexpr double log2_e = 1.4426950408889634;

/// The state of `vectors` vectors that lies there, from its vector `first` on.
attend_state state_at(float* at, std::int32_t vectors, std::int64_t dim, std::int32_t first = 0) noexcept {
  const std::int64_t padded = attention_plan::padded(vectors);
  return {at + first, at + padded + first, at + 2 * padded + first * dim};
}

}  // namespace

void attention_runner::quantise_queries(const attention_call& call, const item& work, const attention_kernels& kernels,
                                        scratch& own) const {
  const std::int64_t dim = call.kv->shape.head_dim;
  const float factor = static_cast<float>(call.scale * log2_e);
  for (std::int32_t v = 0; v < work.vectors(); ++v) {
    float* scale = own.floats.data() + v;
    kernels.quantise_query(call.qkv.f32(row_of(work, v).row) + (work.first_head + v % work.heads) * dim,
                           call.kv->shape.head_dim, call.kv->type, own.queries.data() + v * dim_, scale);
    *scale *= factor;
  }
}

void attention_runner::attend_part(const attention_call& call, const part& mine, const attention_kernels& kernels,
                                   scratch& own) {
  const item& work = plan_.item_of(mine);
  const std::int32_t kv_head = work.first_head / (call.heads / call.kv->shape.kv_heads);
  quantise_queries(call, work, kernels, own);
  const std::byte* units[2][piece_units];
  const auto find = [&](std::int32_t piece) {
    const std::int32_t first = piece * piece_units;
    for (std::int32_t u = 0; u < std::min(piece_units, work.units - first); ++u)
      units[piece % 2][u] = call.kv->unit(plan_.blocks(work)[first + u], call.layer, kv_head);
  };
  attend_args args;
  args.vectors = work.vectors();
  args.head_dim = call.kv->shape.head_dim;
  args.type = call.kv->type;
  args.queries = own.queries.data();
  args.scales = own.floats.data();
  args.seen = own.seen.data();
  args.scores = own.floats.data() + most_vectors;
  float* state = mine.whole ? args.scores + most_vectors * piece_tokens : states_.data() + mine.states;
  find(mine.first);
  for (std::int32_t piece = mine.first; piece < mine.last; ++piece) {
    for (std::int32_t v = 0; v < work.vectors(); ++v)
      own.seen[static_cast<std::size_t>(v)] = std::min(piece_tokens, row_of(work, v).position + 1 - piece * piece_tokens);
    const bool more = piece + 1 < mine.last && (piece + 2) * piece_units <= work.units;
    if (piece + 1 < mine.last) find(piece + 1);
    args.units = units[piece % 2];
    args.next = more ? units[(piece + 1) % 2] : nullptr;
    args.first = piece == mine.first || mine.first > 0;
    args.state = state_at(state, work.vectors(), dim_);
    kernels.attend(args);
    if (mine.first > 0) state += attention_plan::state_floats(work.vectors(), dim_);
  }
  if (mine.whole) write_out(call, work, args.state, kernels);
}

// From the sequence's beginning on: what it shares, then its own.
void attention_runner::join_parts(const attention_call& call, const item& work, const attention_kernels& kernels) {
  attend_state into;
  const auto join = [&](const item& from, std::int32_t first_vector) {
    for (const part& p : plan_.parts_of(from))
      for (std::int32_t i = 0; i < p.kept(); ++i) {
        float* at = states_.data() + p.states + i * attention_plan::state_floats(from.vectors(), dim_);
        const attend_state next = state_at(at, from.vectors(), dim_, first_vector);
        if (into.mixed == nullptr)
          into = next;
        else
          kernels.merge(into, next, work.vectors(), call.kv->shape.head_dim);
      }
  };
  for (const attention_plan::seat& seat : plan_.seats_of(work))
    join(plan_.items()[static_cast<std::size_t>(seat.first_item + work.run)], (seat.row + work.row_of_sequence) * work.heads);
  join(work, 0);
  write_out(call, work, into, kernels);
}

void attention_runner::write_out(const attention_call& call, const item& work, const attend_state& state,
                                 const attention_kernels& kernels) const {
  const std::int64_t dim = call.kv->shape.head_dim;
  for (std::int32_t v = 0; v < work.vectors(); ++v)
    kernels.divide(state.mixed + v * dim_, state.total[v], call.kv->shape.head_dim, call.kv->type,
                   call.out.f32(row_of(work, v).row) + (work.first_head + v % work.heads) * dim);
}

void attention_runner::reserve(const thread_team& team) {
  states_.resize(std::max(states_.size(), static_cast<std::size_t>(plan_.kept_floats())));
  scratch_.resize(static_cast<std::size_t>(team.size()));
  for (scratch& own : scratch_) {
    own.queries.resize(static_cast<std::size_t>(most_vectors * dim_));
    own.floats.resize(static_cast<std::size_t>(most_vectors * (1 + piece_tokens) + attention_plan::state_floats(most_vectors, dim_)));
    own.seen.resize(most_vectors);
  }
}

void attention_runner::run(const attention_call& call, std::span<const sequence_rows> batch, const kernel_set& kernels,
                           thread_team& team) {
  const kv_unit layout(call.kv->shape.head_dim, call.kv->type);
  dim_ = layout.dim();
  const int shares = team.width();  // this round may have another number of members
  plan_.prepare({call.heads, call.kv->shape.kv_heads, layout.dim()}, batch, team, shares);
  if (plan_.items().empty()) return;
  reserve(team);
  bytes_read_ += plan_.units_read() * layout.bytes();
  team.run([&](int thread, int threads) {
    for (int i = thread; i < shares; i += threads)
      for (const part& mine : plan_.parts_of(i))
        attend_part(call, mine, kernels.attention, scratch_[static_cast<std::size_t>(thread)]);
    if (plan_.joined().empty()) return;
    team.barrier();
    for (auto i = static_cast<std::size_t>(thread); i < plan_.joined().size(); i += static_cast<std::size_t>(threads))
      join_parts(call, plan_.items()[static_cast<std::size_t>(plan_.joined()[i])], kernels.attention);
  });
}

}  // namespace troupe::kernels
