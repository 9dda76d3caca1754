// The search for shared prefixes against a naive one, and attention with sharing bit against bit with attention
// without.
#include "support/catch.hpp"

#include <map>
#include <set>

#include "kernels/cpu/shared_prefixes.hpp"
#include "tests/kernels/attention_sequences.hpp"

using namespace troupe;
using namespace troupe::kernels;
using namespace troupe::kernels::testing;

namespace {

using members = std::set<std::int32_t>;

/// By trying all pairs: who shares the pieces up to and with `piece` of sequence s.
members sharing(const std::vector<sequence_rows>& batch, std::size_t s, std::int32_t piece, std::int32_t most_rows) {
  members found;
  const auto has = [&](const sequence_rows& one) { return one.rows <= most_rows && one.past / piece_tokens > piece; };
  for (std::size_t other = 0; other < batch.size(); ++other)
    if (has(batch[s]) && has(batch[other]) &&
        std::equal(batch[s].blocks.begin(), batch[s].blocks.begin() + (piece + 1) * piece_units,
                   batch[other].blocks.begin()))
      found.insert(static_cast<std::int32_t>(other));
  return found;
}

/// What the search says of each piece of each sequence; checks that a sequence's pieces come in order and once.
std::vector<std::vector<members>> told(const shared_prefixes& shared, std::size_t sequences) {
  std::vector<std::vector<members>> all(sequences);
  for (const shared_stretch& stretch : shared.stretches) {
    members some;
    for (std::int32_t i = 0; i < stretch.count; ++i)
      some.insert(shared.order[static_cast<std::size_t>(stretch.first + i)]);
    CHECK(some.size() > 1);
    for (const std::int32_t s : some) {
      auto& pieces = all[static_cast<std::size_t>(s)];
      CHECK(static_cast<std::size_t>(stretch.first_piece) == pieces.size());
      if (!pieces.empty()) CHECK(pieces.back() != some);  // one stretch as long as it can be
      pieces.resize(static_cast<std::size_t>(stretch.last_piece), some);
    }
  }
  for (std::size_t s = 0; s < sequences; ++s) CHECK(static_cast<std::size_t>(shared.own_from[s]) == all[s].size());
  return all;
}

/// A sequence with the first `tokens` of another, in whole blocks, and then its own.
sequence fork(const sequence& parent, std::int32_t tokens, sequence own) {
  const auto numbers = tokens * own.qkv.cols;
  std::copy_n(parent.qkv.values.begin(), numbers, own.qkv.values.begin());
  std::copy_n(parent.blocks.begin(), tokens / 16, own.blocks.begin());
  own.fed_from = tokens;
  return own;
}

/// The outputs with sharing are the last of those without.
void check_same(const std::vector<std::vector<float>>& shared, const std::vector<std::vector<float>>& apart) {
  for (std::size_t s = 0; s < shared.size(); ++s)
    CHECK(same_bits(shared[s], {apart[s].end() - static_cast<std::ptrdiff_t>(shared[s].size()), apart[s].end()}));
}

}  // namespace

TEST_CASE("sequences share exactly the leading pieces whose blocks are all the same") {
  random_source random(11);
  for (int round = 0; round < 300; ++round) {
    // Tables grow by copying the beginning of an earlier one, up to any block.
    std::vector<std::vector<std::int32_t>> tables;
    std::vector<sequence_rows> batch;
    std::int32_t next = 0;
    const auto count = static_cast<std::size_t>(1 + random.below(12));
    for (std::size_t s = 0; s < count; ++s) {
      std::vector<std::int32_t> table;
      if (s > 0 && random.below(4) > 0) {
        const auto& from = tables[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(s)))];
        table.assign(from.begin(), from.begin() + random.below(static_cast<std::int64_t>(from.size()) + 1));
      }
      while (table.size() < 40) table.push_back(next++);
      tables.push_back(table);
    }
    std::int32_t row = 0;
    for (const auto& table : tables) {
      const auto rows = static_cast<std::int32_t>(1 + random.below(5));
      batch.push_back({row, rows, static_cast<std::int32_t>(random.below(40 * 16 - rows)), table});
      row += rows;
    }
    const std::int32_t most_rows = 4;
    shared_prefixes shared;
    find_shared_prefixes(batch, most_rows, shared);
    const auto found = told(shared, count);
    for (std::size_t s = 0; s < count; ++s)
      for (std::int32_t piece = 0; piece < 5; ++piece) {
        const members expected = sharing(batch, s, piece, most_rows);
        INFO("round " << round << " sequence " << s << " piece " << piece);
        const bool said = static_cast<std::size_t>(piece) < found[s].size();
        CHECK(said == (expected.size() > 1));
        if (said) CHECK(found[s][static_cast<std::size_t>(piece)] == expected);
      }
  }
}

TEST_CASE("a block that is shared at another place of a sequence is not a shared prefix") {
  std::vector<std::int32_t> first(20), second(20);
  std::iota(first.begin(), first.end(), 0);
  std::iota(second.begin(), second.end(), 0);
  second[3] = 99;  // the rest of the piece and all later ones are equal
  const std::vector<sequence_rows> batch{{0, 1, 300, first}, {1, 1, 300, second}};
  shared_prefixes shared;
  find_shared_prefixes(batch, 16, shared);
  CHECK(shared.stretches.empty());
  CHECK(shared.own_from == std::vector<std::int32_t>{0, 0});
}

TEST_CASE("attention over shared blocks has the bits of attention over copies") {
  random_source random(12);
  const rope_shape rope{100000.0f, 64, true, {}};
  for (const heads_shape shape : {heads_shape{9, 3, 64}, heads_shape{50, 1, 64}})
    for (const std::int32_t shared : {16, 112, 128, 144, 256, 272}) {
      const auto length = [&] { return shared + 1 + static_cast<std::int32_t>(random.below(40)); };
      const auto apart = make_sequences({length(), length(), length(), length(), 30}, shape, 120, random);
      std::vector<sequence> copies = apart, forks = apart;
      for (std::size_t s = 1; s < 4; ++s) {
        forks[s] = fork(apart[0], shared, apart[s]);
        copies[s].qkv = forks[s].qkv;
      }
      for (const isa which : available_isas()) {
        if (shape.heads == 50 && (shared != 256 || which == isa::scalar))
          continue;  // more heads than attend takes at once
        arena_of plain(which, 1, shape, 120);
        const auto expected = run(plain, copies, shape, rope, 0.125f, 16, false);
        for (const int threads : {1, 2, 3})
          for (const std::int32_t chunk : {1, 5}) {
            if (which == isa::scalar && chunk + threads != 3) continue;  // slow, and like the others
            INFO(to_string(which) << " heads " << shape.heads << " shared " << shared << " threads " << threads
                                  << " chunk " << chunk);
            arena_of with(which, threads, shape, 120);
            check_same(run(with, forks, shape, rope, 0.125f, chunk), expected);
          }
      }
    }
}

TEST_CASE("forks of forks share what each has in common, among many and beside a prompt") {
  random_source random(13);
  const heads_shape shape{6, 2, 80};
  const rope_shape rope{10000.0f, 80, false, {}};
  std::vector<std::int32_t> lengths(24, 450);
  for (auto& length : lengths) length += static_cast<std::int32_t>(random.below(30));
  auto copies = make_sequences(lengths, shape, 24 * 30, random), forks = copies;
  // One root, from which most fork at 144 tokens, and some of those at 288 or 416 again.
  for (std::size_t s = 1; s < forks.size() - 2; ++s) {
    const std::size_t parent = s < 20 ? s / 6 : s - 1;
    forks[s] = fork(forks[parent], parent == 0 ? 144 : s % 2 == 0 ? 288 : 416, copies[s]);
    copies[s].qkv = forks[s].qkv;
  }
  for (const isa which : available_isas()) {
    if (which == isa::scalar) continue;  // slow, and the plan is the same
    arena_of plain(which, 1, shape, 24 * 30);
    const auto expected = run(plain, copies, shape, rope, 0.11f, 64);
    for (const int threads : {1, 2, 3})
      for (const std::int32_t chunk : {4, 16}) {
        INFO(to_string(which) << " threads " << threads << " chunk " << chunk);
        arena_of with(which, threads, shape, 24 * 30);
        check_same(run(with, forks, shape, rope, 0.11f, chunk), expected);
      }
  }
}

TEST_CASE("what sequences share is read once a step, and then each one's own") {
  random_source random(14);
  const heads_shape shape{9, 3, 64};
  for (const std::int64_t count : {2, 16, 17}) {
    // The plan does not depend on what lies in the blocks.
    arena_of on(best_isa(), 2, shape, 300);
    std::vector<std::vector<std::int32_t>> tables(static_cast<std::size_t>(count));
    std::vector<sequence_rows> batch;
    for (std::int32_t s = 0; s < count; ++s) {
      auto& table = tables[static_cast<std::size_t>(s)];
      for (std::int32_t b = 0; b < 32; ++b) table.push_back(b);
      table.push_back(40 + s);
      batch.push_back({s, 1, 512, table});
    }
    dense qkv(count, shape.width(), random), out(count, std::int64_t{shape.heads} * shape.dim);
    on.lane->attention(qkv.view(), shape.heads, 0.125f, on.layer, *on.kv, batch, out.view());
    const std::int64_t unit = on.lane->kv_block_bytes({1, 1, shape.dim});
    const std::int64_t times = count > 16 ? 2 : 1;  // 16 sequences' 48 query vectors are all that are taken at once
    CHECK(on.lane->kv_bytes_read() == shape.kv_heads * unit * (32 * times + count));
  }
}
