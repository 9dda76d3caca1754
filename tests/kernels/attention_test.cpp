// Rope and paged attention against plain double loops over the tokens' own K and V, and bit against bit.
#include "support/catch.hpp"

#include "kernels/cpu/attention_plan.hpp"
#include "kernels/cpu/rope_table.hpp"
#include "tests/kernels/attention_sequences.hpp"

using namespace troupe;
using namespace troupe::kernels;
using namespace troupe::kernels::testing;

TEST_CASE("a row's angles are its position's, met before or not, near or far") {
  const std::vector<float> factors{1.0f, 1.5f, 8.0f};
  const std::vector<std::int32_t> no_blocks;
  const std::int32_t edge = rope_table::kept_positions;
  rope_table table;
  for (const rope_shape& shape : {rope_shape{10000.0f, 6, true, factors}, rope_shape{500000.0f, 8, true, {}}})
    for (const std::vector<sequence_rows>& batch :
         {std::vector<sequence_rows>{{0, 3, 5, no_blocks}, {3, 1, 40, no_blocks}},
          std::vector<sequence_rows>{{4, 1, edge + 7, no_blocks}, {0, 4, edge - 2, no_blocks}, {5, 2, 0, no_blocks}},
          std::vector<sequence_rows>{{0, 1, 41, no_blocks}, {1, 1, edge + 8, no_blocks}}}) {
      table.prepare(shape, batch);
      for (const sequence_rows& s : batch)
        for (std::int32_t r = 0; r < s.rows; ++r)
          for (std::int32_t i = 0; i < shape.dims / 2; ++i) {
            double angle = (s.past + r) * std::pow(static_cast<double>(shape.base), -2.0 * i / shape.dims);
            if (!shape.factors.empty()) angle /= static_cast<double>(factors[static_cast<std::size_t>(i)]);
            CHECK(std::fabs(static_cast<double>(table.cosines(s.first_row + r)[i]) - std::cos(angle)) < 1e-6);
            CHECK(std::fabs(static_cast<double>(table.sines(s.first_row + r)[i]) - std::sin(angle)) < 1e-6);
          }
    }
}

TEST_CASE("rows are apart only where no thread reads what another stores in the same step") {
  thread_team team(2);
  const auto apart = [&](const attention_shape& shape, const std::vector<sequence_rows>& batch) {
    attention_plan plan;
    plan.prepare(shape, batch, team, 2);
    return plan.rows_apart();
  };
  const attention_shape usual{9, 3, 64};
  const std::vector<std::int32_t> first{0, 1, 2, 3}, second{4, 5, 6, 7}, fork{0, 1, 2, 9};
  CHECK(apart(usual, {{0, 1, 20, first}, {1, 1, 47, second}}));
  CHECK(apart(usual, {{0, 1, 62, first}, {1, 1, 50, fork}}));         // what they share was stored before
  CHECK_FALSE(apart(usual, {{0, 1, 47, first}, {1, 1, 48, fork}}));   // the last token of what the other reads
  CHECK_FALSE(apart(usual, {{0, 1, 20, first}, {1, 1, 21, first}}));  // one sequence's rows as if they were two's
  CHECK_FALSE(apart(usual, {{0, 40, 0, first}}));                     // several items
  CHECK_FALSE(apart({50, 1, 64}, {{0, 1, 20, first}}));               // more heads than an item takes
}

TEST_CASE("a plan follows its step's tables, places and shape, and keeps no hold of the tables") {
  thread_team team(2);
  attention_plan plan;
  std::vector<std::int32_t> table(20);
  std::iota(table.begin(), table.end(), 0);
  std::vector<sequence_rows> batch{{0, 1, 300, table}};
  const attention_shape shape{9, 3, 64};
  plan.prepare(shape, batch, team, 2);
  CHECK(plan.blocks(plan.items()[0])[18] == 18);
  const std::vector<std::int32_t> copy = table;
  batch[0].blocks = copy;
  table.assign(20, 77);
  plan.prepare(shape, batch, team, 2);
  CHECK(plan.blocks(plan.items()[0])[18] == 18);
  batch[0].blocks = table;
  plan.prepare(shape, batch, team, 2);
  CHECK(plan.blocks(plan.items()[0])[18] == 77);
  batch[0].past = 319;
  plan.prepare(shape, batch, team, 2);
  CHECK(plan.rows().back().position == 319);
  plan.prepare({8, 4, 64}, batch, team, 2);
  CHECK(plan.items().size() == 4);
}

TEST_CASE("paged attention is softmax over the sequence's own tokens") {
  const std::vector<float> factors{1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 6.0f, 7.0f, 8.0f};
  const struct {
    heads_shape shape;
    rope_shape rope;
  } cases[] = {{{9, 3, 64}, {100000.0f, 64, true, {}}},
               {{4, 4, 32}, {10000.0f, 32, false, {}}},
               {{8, 1, 16}, {10000.0f, 16, true, factors}},
               {{14, 1, 48}, {10000.0f, 32, true, {}}},
               {{2, 1, 20}, {10000.0f, 20, false, {}}}};
  random_source random(1);
  for (const auto& [shape, rope] : cases) {
    const auto all = make_sequences({1, 16, 37, 70}, shape, 40, random);
    const float scale = 1.0f / std::sqrt(static_cast<float>(shape.dim));
    for (const isa which : available_isas()) {
      arena_of on(which, 2, shape, 40);
      const auto found = run(on, all, shape, rope, scale, 25);
      for (std::size_t s = 0; s < all.size(); ++s) {
        INFO(to_string(which) << " heads " << shape.heads << " dim " << shape.dim << " length " << all[s].qkv.rows);
        // Queries, keys and values are rounded to 14 bits and more, at the worst of all outputs.
        CHECK(distance(found[s], naive(all[s].qkv, shape, rope, static_cast<double>(scale))) < 5e-3);
      }
    }
  }
}

TEST_CASE("heads of any size attend alike, to any number of rows after any past") {
  random_source random(5);
  for (const std::int32_t dim : {64, 80, 96, 128, 256}) {
    const heads_shape shape{6, 2, dim};
    const rope_shape rope{10000.0f, dim, dim % 3 == 0, {}};
    const float scale = 1.0f / std::sqrt(static_cast<float>(dim));
    std::vector<std::int32_t> lengths{1, 65, 129};
    for (int i = 0; i < 2; ++i) lengths.push_back(static_cast<std::int32_t>(1 + random.below(190)));
    auto all = make_sequences(lengths, shape, 60, random);
    std::vector<std::vector<double>> expected;
    for (const sequence& s : all) expected.push_back(naive(s.qkv, shape, rope, static_cast<double>(scale)));
    for (const isa which : available_isas())
      for (const auto chunk : {static_cast<std::int32_t>(1 + random.below(65)), 65}) {
        arena_of on(which, 2, shape, 60);
        const auto found = run(on, all, shape, rope, scale, chunk);
        for (std::size_t s = 0; s < all.size(); ++s) {
          INFO(to_string(which) << " dim " << dim << " length " << all[s].qkv.rows << " chunk " << chunk);
          CHECK(distance(found[s], expected[s]) < 5e-3);
        }
      }
  }
}

TEST_CASE("a long context is split and merged without loss") {
  random_source random(2);
  const heads_shape shape{6, 2, 32};
  const rope_shape rope{10000.0f, 32, true, {}};
  const auto all = make_sequences({700}, shape, 60, random);
  const auto expected = naive(all[0].qkv, shape, rope, 0.3);
  for (const isa which : available_isas()) {
    arena_of on(which, 2, shape, 60);
    CHECK(distance(run(on, all, shape, rope, 0.3f, 700)[0], expected) < 1e-2);
  }
}

TEST_CASE(
    "a token's attention has the same bits alone, in a batch, in any chunk, on any number of threads, and in one op or "
    "two") {
  random_source random(3);
  const heads_shape shape{9, 3, 64};
  const rope_shape rope{10000.0f, 64, true, {}};
  const auto all = make_sequences({530, 1, 300, 40}, shape, 80, random);
  for (const isa which : available_isas()) {
    arena_of plain(which, 1, shape, 80);
    const auto expected = run(plain, all, shape, rope, 0.125f, 530, false);
    for (const int threads : {1, 2, 3})
      for (const std::int32_t chunk : {1, 7, 64, 256}) {
        if (which == isa::scalar && chunk == 7) continue;  // slow, and like the others
        arena_of on(which, threads, shape, 80);
        INFO(to_string(which) << " threads " << threads << " chunk " << chunk);
        const auto found = run(on, all, shape, rope, 0.125f, chunk);
        for (std::size_t s = 0; s < all.size(); ++s) CHECK(same_bits(found[s], expected[s]));
      }
    arena_of alone(which, 2, shape, 80);
    CHECK(same_bits(run(alone, {all[2]}, shape, rope, 0.125f, 300)[0], expected[2]));
  }
}

TEST_CASE("NaN left in a recycled block does not reach its next owner") {
  random_source random(4);
  const heads_shape shape{4, 2, 32};
  const rope_shape rope{10000.0f, 32, true, {}};
  auto poisoned = make_sequences({64}, shape, 4, random);
  const auto clean = make_sequences({37}, shape, 4, random);
  for (float& v : poisoned[0].qkv.values) v = NAN;
  for (const isa which : available_isas()) {
    arena_of fresh(which, 1, shape, 4), used(which, 1, shape, 4);
    const auto expected = run(fresh, clean, shape, rope, 0.2f, 5);
    run(used, poisoned, shape, rope, 0.2f, 64);
    CHECK(same_bits(run(used, clean, shape, rope, 0.2f, 5)[0], expected[0]));
  }
}
