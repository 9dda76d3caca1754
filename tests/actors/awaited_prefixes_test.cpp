// Who waits for whom, against a comparison of all with all; and what that costs for long queues.
#include <algorithm>
#include <deque>
#include <random>

#include "actors/scheduler/awaited_prefixes.hpp"
#include "support/catch.hpp"
#include "support/planner_set_up.hpp"

using namespace troupe;
using namespace troupe::actors;

namespace {

constexpr std::int32_t width = 16;

planned_sequence with_tokens(std::vector<std::int32_t> tokens, std::int32_t offered = 0) {
  planned_sequence one;
  awaited_prefixes::extend_hashes(one.beginnings, tokens, width);
  one.known = std::make_shared<const std::vector<std::int32_t>>(std::move(tokens));
  one.offered = offered;
  return one;
}

/// `common` tokens that all have, then this sequence's own.
std::vector<std::int32_t> prompt(std::int32_t common, std::int32_t length, std::int32_t own) {
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(length), own);
  for (std::int32_t i = 0; i < std::min(common, length); ++i) tokens[static_cast<std::size_t>(i)] = i;
  return tokens;
}

bool computes(const planned_sequence& of, const planned_sequence& other, std::int32_t least) {
  const std::int32_t rows = std::max(of.offered + 1, (least + width - 1) / width) * width;
  return rows <= of.known_rows() && rows < other.known_rows() &&
         std::equal(of.known->begin(), of.known->begin() + rows, other.known->begin());
}

}  // namespace

TEST_CASE("a sequence waits for exactly those who compute its beginning") {
  std::mt19937 random(5);
  const auto up_to = [&random](std::uint32_t n) { return static_cast<std::int32_t>(random() % n); };
  int waits = 0;
  for (int round = 0; round < 300; ++round) {
    const std::int32_t least = up_to(80);
    awaited_prefixes all(width, least);
    std::deque<planned_sequence> running;
    for (std::int32_t i = up_to(8); i > 0; --i) {
      running.push_back(with_tokens(prompt(16 * up_to(8) + up_to(2), 1 + up_to(150), 1000 + up_to(3)), up_to(6)));
      all.add(running.back());
    }
    for (int i = 0; i < 20; ++i) {
      const auto one = with_tokens(prompt(16 * up_to(8) + up_to(2), 1 + up_to(150), 1000 + up_to(3)));
      const bool expected =
          std::any_of(running.begin(), running.end(), [&](const auto& of) { return computes(of, one, least); });
      REQUIRE(all.contain_beginning_of(one) == expected);
      waits += expected ? 1 : 0;
    }
  }
  REQUIRE(waits > 500);
}

TEST_CASE("hashes grown with a sequence are those of the whole") {
  std::vector<std::uint64_t> grown, whole;
  awaited_prefixes::extend_hashes(grown, prompt(100, 40, 7), width);
  REQUIRE(grown.size() == 2);
  awaited_prefixes::extend_hashes(grown, prompt(100, 90, 7), width);
  awaited_prefixes::extend_hashes(whole, prompt(100, 90, 7), width);
  REQUIRE(grown == whole);
}

TEST_CASE("10,000 that wait beside 256 that run cost one look-up each, not one a pair") {
  awaited_prefixes all(width, 64);
  std::deque<planned_sequence> running;
  for (std::int32_t i = 0; i < 256; ++i) {  // one common beginning, that is computed, and own tails
    running.push_back(with_tokens(prompt(512, 640, 1000 + i), 512 / width));
    all.add(running.back());
  }
  std::int64_t waits = 0;
  for (std::int32_t i = 0; i < 10000; ++i)
    waits += all.contain_beginning_of(with_tokens(prompt(512, 640, 1000 + i))) ? 1 : 0;
  REQUIRE(waits == 256);  // those whose tail is being computed; the others may enter
  REQUIRE(all.look_ups() == 256 + 10000);
}

TEST_CASE("a queue of 10,000 behind one long prompt that all begin with enters when that is computed, one by one") {
  auto options = planner_for(256, 2048, 1 << 16);
  options.queue_sequences = 20000;
  options.queue_tokens = std::int64_t{1} << 40;
  options.share_prefixes = true;
  step_planner planner(options);
  planner_outputs out;
  for (generation_id id = 1; id <= 10001; ++id) {
    auto terms = std::make_shared<sequence_terms>();
    terms->generation = id;
    terms->max_tokens = 4;
    planner.admit(
        terms,
        std::make_shared<const std::vector<std::int32_t>>(prompt(512, 520, 1000 + static_cast<std::int32_t>(id))), 0,
        out);
  }
  std::int32_t next_block = 0;
  const auto grant = [&](std::int32_t cached) {
    REQUIRE(out.needs.size() == 1);  // who is asked for next will find what is computed, or computes it for the others
    block_grant granted{out.needs[0].id, {}, cached};
    for (std::int32_t i = 0; i < out.needs[0].blocks; ++i) granted.blocks.push_back(next_block++);
    out = {};
    planner.granted({granted}, 60000, out);
  };
  grant(0);
  REQUIRE(out.needs.empty());
  REQUIRE(out.plans.size() == 1);
  step_result result;
  result.step = out.plans[0].plan->step;
  result.tokens.push_back({1, 0, 5, sequence_end::none, 0.0f, {}, {}});
  out = {};
  planner.done(result, out);
  for (int i = 1; i < 256; ++i) grant(512);
  REQUIRE(planner.running() == 256);
  REQUIRE(out.needs.empty());
  REQUIRE(planner.check() == "");
}
