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

// K and V of an item's rows, for its KV head.
void attention_runner::store_rows(const attention_call& call, const item& work, const kernel_set& kernels) const {
  for (std::int32_t r = 0, rows = 0; r < work.rows; r += rows) {
    const attention_plan::query_row& first = row_of(work, r * work.heads);
    rows = std::min(work.rows - r, kv_unit::tokens - first.position % kv_unit::tokens);
    call.rope->store({call.qkv, call.heads, call.layer, call.kv}, kernels, first.row, rows, first.position,
                     plan_.blocks(work)[first.position / kv_unit::tokens], kv_head_of(call, work));
  }
}

// All before any is read: a load that meets words still on their way to the cache waits for them.
void attention_runner::store_parts(const attention_call& call, std::span<const part> parts,
                                   const kernel_set& kernels) const {
  for (std::size_t p = 0; p < parts.size(); ++p) {
    if (p + 1 < parts.size()) fetch_last_unit(call, parts[p + 1]);
    if (stores_rows(parts[p])) store_rows(call, plan_.item_of(parts[p]), kernels);
  }
}

bool attention_runner::stores_rows(const part& mine) const noexcept {
  const item& work = plan_.item_of(mine);
  return !work.shared && mine.last == work.last_piece();
}

// What store_rows will write to, and attend read.
void attention_runner::fetch_last_unit(const attention_call& call, const part& mine) const {
  if (!stores_rows(mine)) return;
  const item& work = plan_.item_of(mine);
  const std::byte* unit = call.kv->unit(plan_.blocks(work)[work.units - 1], call.layer, kv_head_of(call, work));
  for (std::int64_t at = 0; at < unit_bytes_; at += 64) __builtin_prefetch(unit + at, 1);
}

// The units of a piece; where the item has fewer than a piece's, its last one stands in.
void attention_runner::find_units(const attention_call& call, const item& work, std::int32_t piece,
                                  const std::byte* (&units)[piece_units]) const {
  const std::int32_t first = piece * piece_units, there = std::min(piece_units, work.units - first);
  for (std::int32_t u = 0; u < piece_units; ++u)
    units[u] = call.kv->unit(plan_.blocks(work)[first + std::min(u, there - 1)], call.layer, kv_head_of(call, work));
}

void attention_runner::quantise_queries(const attention_call& call, const item& work, const kernel_set& kernels,
                                        scratch& own) const {
  const std::int64_t dim = call.kv->shape.head_dim;
  const float factor = static_cast<float>(call.scale * log2_e);
  std::int32_t v = 0;
  for (std::int32_t r = 0; r < work.rows; ++r) {
    const std::int64_t row = row_of(work, v).row;
    for (std::int32_t head = work.first_head; head < work.first_head + work.heads; ++head, ++v) {
      const float* query = call.qkv.f32(row) + head * dim;
      if (call.rope != nullptr) {  // its other parts turn it for themselves
        std::copy_n(query, dim, own.head.data());
        call.rope->turn(own.head.data(), row, kernels);
        query = own.head.data();
      }
      float* scale = own.floats.data() + v;
      kernels.attention.quantise_query(query, call.kv->shape.head_dim, call.kv->type, own.queries.data() + v * dim_,
                                       scale);
      *scale *= factor;
    }
  }
}

void attention_runner::attend_part(const attention_call& call, const part& mine, const part* then,
                                   const kernel_set& kernels, scratch& own) {
  const item& work = plan_.item_of(mine);
  quantise_queries(call, work, kernels, own);
  const std::byte* units[2][piece_units];
  attend_args args;
  args.vectors = work.vectors();
  args.head_dim = call.kv->shape.head_dim;
  args.type = call.kv->type;
  args.queries = own.queries.data();
  args.scales = own.floats.data();
  args.seen = own.seen.data();
  args.scores = own.floats.data() + most_vectors;
  float* state = mine.whole ? args.scores + most_vectors * piece_tokens : states_.data() + mine.states;
  find_units(call, work, mine.first, units[mine.first % 2]);
  for (std::int32_t piece = mine.first; piece < mine.last; ++piece) {
    for (std::int32_t r = 0; r < work.rows; ++r)
      std::fill_n(own.seen.begin() + r * work.heads, work.heads,
                  std::min(piece_tokens, row_of(work, r * work.heads).position + 1 - piece * piece_tokens));
    args.units = units[piece % 2];
    args.next = units[(piece + 1) % 2];
    if (piece + 1 < mine.last) find_units(call, work, piece + 1, units[(piece + 1) % 2]);
    else if (then != nullptr) find_units(call, plan_.item_of(*then), then->first, units[(piece + 1) % 2]);
    else args.next = nullptr;
    args.first = piece == mine.first || mine.first > 0;
    args.state = state_at(state, work.vectors(), dim_);
    kernels.attention.attend(args);
    if (mine.first > 0) state += attention_plan::state_floats(work.vectors(), dim_);
  }
  if (mine.whole) write_out(call, work, args.state, kernels.attention);
}

// From the sequence's beginning on: what it shares, then its own.
void attention_runner::join_parts(const attention_call& call, const item& work, const attention_kernels& kernels) {
  attend_state into;
  const auto join = [&](const item& from, std::int32_t first_vector) {
    for (const part& p : plan_.parts_of(from))
      for (std::int32_t i = 0; i < p.kept(); ++i) {
        float* at = states_.data() + p.states + i * attention_plan::state_floats(from.vectors(), dim_);
        const attend_state next = state_at(at, from.vectors(), dim_, first_vector);
        if (into.mixed == nullptr) into = next;
        else kernels.merge(into, next, work.vectors(), call.kv->shape.head_dim);
      }
  };
  for (const attention_plan::seat& seat : plan_.seats_of(work))
    join(plan_.items()[static_cast<std::size_t>(seat.first_item + work.run)],
         (seat.row + work.row_of_sequence) * work.heads);
  join(work, 0);
  write_out(call, work, into, kernels);
}

void attention_runner::write_out(const attention_call& call, const item& work, const attend_state& state,
                                 const attention_kernels& kernels) const {
  const std::int64_t dim = call.kv->shape.head_dim;
  std::int32_t v = 0;
  for (std::int32_t r = 0; r < work.rows; ++r) {
    float* out = call.out.f32(row_of(work, v).row) + work.first_head * dim;
    for (std::int32_t head = 0; head < work.heads; ++head, ++v)
      kernels.divide(state.mixed + v * dim_, state.total[v], call.kv->shape.head_dim, call.kv->type, out + head * dim);
  }
}

void attention_runner::reserve(const thread_team& team) {
  states_.resize(std::max(states_.size(), static_cast<std::size_t>(plan_.kept_floats())));
  scratch_.resize(static_cast<std::size_t>(team.size()));
  for (scratch& own : scratch_) {
    own.queries.resize(static_cast<std::size_t>(most_vectors * dim_));
    own.floats.resize(
        static_cast<std::size_t>(most_vectors * (1 + piece_tokens) + attention_plan::state_floats(most_vectors, dim_)));
    own.seen.resize(most_vectors);
    own.head.resize(static_cast<std::size_t>(dim_));
  }
}

void attention_runner::run(const attention_call& call, std::span<const sequence_rows> batch, const kernel_set& kernels,
                           thread_team& team) {
  const kv_unit layout(call.kv->shape.head_dim, call.kv->type);
  dim_ = layout.dim();
  unit_bytes_ = layout.bytes();
  const int shares = team.width();  // this round may have another number of members
  plan_.prepare({call.heads, call.kv->shape.kv_heads, layout.dim()}, batch, team, shares);
  if (plan_.items().empty()) return;
  reserve(team);
  bytes_read_ += plan_.units_read() * layout.bytes();
  if (!parts_left_) parts_left_.emplace(team);
  for (int member = 0; member < team.size(); ++member)
    parts_left_->deal(member, member < shares ? plan_.share_of(member) : share{});
  team.run([&](int thread, int threads) {
    if (call.rope != nullptr && !plan_.rows_apart()) {
      call.rope->store_share({call.qkv, call.heads, call.layer, call.kv}, kernels, team, thread, threads);
      team.barrier();
    }
    for (share taken = parts_left_->take(thread); taken.first < taken.last; taken = parts_left_->take(thread)) {
      const std::span<const part> parts = plan_.parts_in(taken);
      if (call.rope != nullptr && plan_.rows_apart()) store_parts(call, parts, kernels);
      for (std::size_t p = 0; p < parts.size(); ++p)
        attend_part(call, parts[p], p + 1 < parts.size() ? &parts[p + 1] : nullptr, kernels,
                    scratch_[static_cast<std::size_t>(thread)]);
    }
    if (plan_.joined().empty()) return;
    team.barrier();
    for (auto i = static_cast<std::size_t>(thread); i < plan_.joined().size(); i += static_cast<std::size_t>(threads))
      join_parts(call, plan_.items()[static_cast<std::size_t>(plan_.joined()[i])], kernels.attention);
  });
}

}  // namespace troupe::kernels
