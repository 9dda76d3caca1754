// Which way products take, from made-up costs; and that ways which may be mixed give the same bits.
#include "kernels/cpu/product_ways.hpp"

#include <algorithm>

#include "kernels/cpu/kernel_set.hpp"
#include "kernels/cpu/product_runner.hpp"
#include "support/catch.hpp"
#include "tests/kernels/test_tensors.hpp"

using namespace troupe;
using namespace troupe::kernels;
using namespace troupe::kernels::testing;

namespace {

/// Costs of two ways for every number of rows: `fast` takes `share` of what `slow` does, from `from` rows on, and twice
/// as long below.
std::vector<way_cost> crossing(dtype type, product_way slow, product_way fast, std::int32_t from, double share) {
  std::vector<way_cost> costs;
  for (const std::int32_t rows : costed_rows) {
    costs.push_back({type, rows, slow, 1000 * rows});
    costs.push_back({type, rows, fast, static_cast<std::int64_t>(1000 * rows * (rows >= from ? share : 2.0))});
  }
  return costs;
}

}  // namespace

#if defined(__x86_64__)

namespace {
const std::vector<isa> server{isa::scalar, isa::avx2, isa::avx512vnni, isa::avx512bf16, isa::amx};
const product_way tiles = way_of(isa::amx), dots = way_of(isa::avx512bf16), narrow = way_of(isa::avx2);
}  // namespace

TEST_CASE("without costs the best set computes everything, but tiles are for BF16 weights") {
  const product_ways usual(isa::avx512vnni), with_tiles(isa::amx);
  for (const std::int64_t rows : {1, 23, 24, 1000}) {
    for (const dtype type : {dtype::q4_k, dtype::bf16, dtype::f16})
      CHECK(usual.way(type, rows) == way_of(isa::avx512vnni));
    for (const dtype type : {dtype::q8_0, dtype::f32}) CHECK(with_tiles.way(type, rows) == dots);
    CHECK(with_tiles.way(dtype::bf16, rows) == tiles);
  }
}

TEST_CASE("quantised types change their set where costs cross, each type for itself") {
  const auto costs = crossing(dtype::q4_0, dots, tiles, 16, 0.5);
  const product_ways ways(isa::amx, costs, server);
  for (const std::int64_t rows : {1, 2, 3, 15, 16, 17, 64, 65, 4096}) {
    INFO(rows);
    CHECK(ways.way(dtype::q4_0, rows) == (rows < 16 ? dots : tiles));
    CHECK(ways.way(dtype::q8_0, rows) == dots);
  }
}

TEST_CASE("a way that is hardly faster is not taken") {
  CHECK(product_ways(isa::avx512bf16, crossing(dtype::q6_k, dots, narrow, 1, 0.98), server).way(dtype::q6_k, 8) ==
        dots);
  CHECK(product_ways(isa::avx512bf16, crossing(dtype::q6_k, dots, narrow, 1, 0.9), server).way(dtype::q6_k, 8) ==
        narrow);
}

TEST_CASE("a float type has one set for all numbers of rows, and another one only for much") {
  const auto one_set = [](const product_ways& ways, dtype type) {
    for (const std::int32_t rows : costed_rows) CHECK(ways.way(type, rows).set == ways.way(type, 1).set);
    return ways.way(type, 1).set;
  };
  CHECK(one_set(product_ways(isa::amx, crossing(dtype::bf16, tiles, dots, 1, 0.5), server), dtype::bf16) ==
        isa::avx512bf16);
  CHECK(one_set(product_ways(isa::amx, crossing(dtype::bf16, tiles, dots, 1, 0.9), server), dtype::bf16) == isa::amx);
  CHECK(one_set(product_ways(isa::amx, crossing(dtype::bf16, tiles, dots, 32, 0.5), server), dtype::bf16) == isa::amx);
  auto missing = crossing(dtype::bf16, tiles, dots, 1, 0.5);
  missing.pop_back();  // what is not known for all rows is not taken
  CHECK(one_set(product_ways(isa::amx, missing, server), dtype::bf16) == isa::amx);
  product_ways forced(isa::amx);
  forced.set(dtype::f16, 3, narrow);
  CHECK(one_set(forced, dtype::f16) == isa::avx2);
}

TEST_CASE("how many rows are taken at once is chosen by number of rows, of float types too") {
  const product_way four{isa::avx512bf16, 4};
  const auto many = [&](dtype type) {
    auto costs = crossing(type, dots, four, 24, 0.7);
    std::erase_if(costs, [&](const way_cost& one) { return one.way == four && one.rows < 24; });
    return product_ways(isa::avx512bf16, costs, server);
  };
  for (const dtype type : {dtype::q5_k, dtype::bf16, dtype::f32}) {
    CHECK(many(type).way(type, 16) == dots);
    CHECK(many(type).way(type, 24) == four);
    CHECK(many(type).way(type, 500) == four);
  }
}

TEST_CASE("costs of ways that cannot be taken are passed over") {
  const std::vector<isa> masked{isa::scalar, isa::avx2};
  CHECK(product_ways(isa::avx2, crossing(dtype::q4_0, narrow, dots, 1, 0.1), masked) == product_ways(isa::avx2));
  for (const std::int32_t together : {-1, 0, 3, 5, 9, 1000000})
    CHECK(product_ways(isa::avx2, crossing(dtype::q4_0, narrow, {isa::avx2, together}, 1, 0.1), masked) ==
          product_ways(isa::avx2));
  auto never = crossing(dtype::q4_0, narrow, {isa::avx2, 8}, 1, 0.1);
  for (way_cost& one : never) one.nanoseconds = -one.nanoseconds;
  CHECK(product_ways(isa::avx2, never, masked) == product_ways(isa::avx2));
}

TEST_CASE("only what differs is measured") {
  const auto sets = [](dtype type) {
    std::vector<isa> found;
    for (const product_way way : ways_for(type, 1, server)) found.push_back(way.set);
    return found;
  };
  CHECK(sets(dtype::q4_0) == std::vector{isa::avx2, isa::avx512bf16, isa::amx});
  CHECK(sets(dtype::bf16) == std::vector{isa::avx2, isa::avx512vnni, isa::avx512bf16, isa::amx});
  CHECK(sets(dtype::f16) == std::vector{isa::avx2, isa::avx512bf16});
  CHECK(ways_for(dtype::q8_0, 64, std::vector{isa::scalar}).size() == 1);
  CHECK(ways_for(dtype::q8_0, 16, std::vector{isa::scalar, isa::avx2}).size() == 1);
  CHECK(ways_for(dtype::q8_0, 24, std::vector{isa::scalar, isa::avx2}).size() == 3);
  const auto masked = usable_sets(isa::avx2);
  CHECK(std::all_of(masked.begin(), masked.end(), [](isa one) { return one <= isa::avx2; }));
}

#endif

TEST_CASE("of a matrix of several types the largest part decides, or the largest one of floats") {
  const auto machine = available_isas();
  product_ways ways(machine.back());
  ways.set(dtype::q4_0, 0, way_of(machine.front()));
  ways.set(dtype::q8_0, 0, way_of(machine.back()));
  ways.set(dtype::f16, 0, way_of(machine.front()));
  const auto part = [](dtype type, std::int64_t rows) {
    return packed_part{{nullptr, type, rows, 256, 0}, nullptr, nullptr, 0, 0};
  };
  cpu_matrix w;
  w.parts = {part(dtype::q8_0, 16), part(dtype::q4_0, 64)};
  CHECK(ways.way(w, 1) == way_of(machine.front()));
  w.parts = {part(dtype::q8_0, 64), part(dtype::q4_0, 16)};
  CHECK(ways.way(w, 1) == way_of(machine.back()));
  w.parts = {part(dtype::q8_0, 640), part(dtype::f16, 16), part(dtype::bf16, 8)};
  CHECK(ways.way(w, 1) == way_of(machine.front()));
}

TEST_CASE("all ways of a quantised type give the same bits, and those of a float type in one set") {
  random_source random(77);
  const auto usable = available_isas();
  thread_team team(2);
  weight_store weights(team, true, 0, {});
  product_ways ways(usable.back());
  product_runner runner(kernels_for(usable.back()), ways, team, weights);
  for (const dtype type : {dtype::q4_0, dtype::q8_0, dtype::q2_k, dtype::q4_k, dtype::q6_k, dtype::iq4_xs, dtype::mxfp4,
                           dtype::bf16, dtype::f16})
    for (const std::int64_t tokens : {1, 3, 17, 29, 67}) {
      stored w(type, 70, 512, random);
      dense x(tokens, 512, random);
      const matrix packed = weights.pack(std::vector{w.view()}).value_or_throw();
      const auto product = [&](product_way way) {
        for (std::size_t at = 0; at < costed_rows.size(); ++at) ways.set(type, at, way);
        dense out(tokens, 70);
        runner.run({.w = static_cast<const cpu_matrix*>(packed.get()), .x = x.view(), .out = out.view()});
        return out.values;
      };
      auto all = ways_for(type, costed_rows.back(), usable);
      if (is_quantised(type)) all.push_back(way_of(isa::scalar));
      for (const product_way way : all) {
        INFO(memory::info(type).name << " " << to_string(way.set) << "/" << way.together << ", " << tokens << " rows");
        CHECK(same_bits(product(way), product(way_of(is_quantised(type) ? isa::scalar : way.set))));
      }
    }
}

TEST_CASE("how a product is cut moves no bit") {
  constexpr std::int64_t never = std::int64_t{1} << 40;
  constexpr product_limits cuts[] = {
      {.lone_weight_bytes = never},
      {.lone_weight_bytes = 0, .input_bytes_at_once = 1},
      {.lone_weight_bytes = 0, .input_bytes_at_once = never, .least_dealt = 1, .most_dealt = never},
      {.lone_weight_bytes = 0, .input_bytes_at_once = 1, .least_dealt = never}};
  random_source random(79);
  thread_team team(3);
  weight_store weights(team, true, 0, {});
  const product_ways ways(best_isa());
  for (const dtype type : {dtype::q4_1, dtype::q6_k, dtype::bf16, dtype::f32})
    for (const std::int64_t tokens : {1, 3, 12, 67}) {
      INFO(memory::info(type).name << ", " << tokens << " rows");
      stored w(type, 150, 512, random);
      dense x(tokens, 512, random);
      const matrix packed = weights.pack(std::vector{w.view()}).value_or_throw();
      const auto product = [&](const product_limits& limits) {
        product_runner runner(kernels_for(best_isa()), ways, team, weights, limits);
        dense out(tokens, 150);
        runner.run({.w = static_cast<const cpu_matrix*>(packed.get()), .x = x.view(), .out = out.view()});
        return out.values;
      };
      for (const product_limits& cut : cuts) CHECK(same_bits(product(cut), product({})));
    }
}

TEST_CASE("gate, up and down may each take another way: their bits stay") {
  random_source random(78);
  const auto usable = available_isas();
  thread_team team(2);
  weight_store weights(team, true, 0, {});
  const std::int64_t width = 256, inner = 512;
  stored gate(dtype::q4_0, inner, width, random), up(dtype::q4_0, inner, width, random),
      down(dtype::q6_k, width, inner, random);
  const matrix both = weights.pack(std::vector{gate.view(), up.view()}).value_or_throw();
  const matrix last = weights.pack(std::vector{down.view()}).value_or_throw();
  product_ways ways(usable.back());
  product_runner runner(kernels_for(usable.back()), ways, team, weights);
  for (const std::int64_t tokens : {1, 5, 19, 67}) {
    dense x(tokens, width, random), gain(1, width, random), gated(tokens, inner);
    const auto mlp = [&](product_way first, product_way second) {
      for (std::size_t at = 0; at < costed_rows.size(); ++at) {
        ways.set(dtype::q4_0, at, first);
        ways.set(dtype::q6_k, at, second);
      }
      dense out = x;
      const auto& gate_up = static_cast<const cpu_matrix&>(*both);
      const auto& inner_w = static_cast<const cpu_matrix&>(*last);
      REQUIRE(runner.joins(gate_up, inner_w));
      runner.run_joined({.w = &gate_up, .x = out.view(), .out = {}, .norm_weight = gain.values.data(), .eps = 1e-5f},
                        {.w = &inner_w, .x = gated.view(), .out = out.view(), .add = true});
      return out.values;
    };
    const auto expected = mlp(way_of(isa::scalar), way_of(isa::scalar));
    for (const product_way first : ways_for(dtype::q4_0, 64, usable))
      for (const product_way second : ways_for(dtype::q6_k, 64, usable)) {
        INFO(to_string(first.set) << "/" << first.together << " " << to_string(second.set) << "/" << second.together
                                  << ", " << tokens << " rows");
        CHECK(same_bits(mlp(first, second), expected));
      }
  }
}
