// The head: the logits of `linear`, and choices that do not depend on what the lane keeps of them.
#include <algorithm>
#include <cmath>

#include "support/catch.hpp"

#include "kernels/cpu/cpu_lane.hpp"
#include "tests/kernels/test_tensors.hpp"

using namespace troupe;
using namespace troupe::kernels;
using namespace troupe::kernels::testing;

namespace {

constexpr std::int64_t width = 64;

std::vector<std::int32_t> choices(lane& on, dense logits, const std::vector<sampling_row>& how) {
  std::vector<sampled> picks(how.size());
  on.sample(logits.view(), how, picks);
  std::vector<std::int32_t> ids;
  for (const sampled& pick : picks) ids.push_back(pick.id);
  return ids;
}

std::vector<sampling_row> ways(std::int64_t rows) {
  std::vector<sampling_row> how(static_cast<std::size_t>(rows));
  for (std::size_t i = 0; i < how.size(); ++i) {
    how[i].seed = i;
    how[i].temperature = i % 3 == 0 ? 0.0f : 0.8f;
    how[i].top_k = i % 3 == 1 ? 40 : 0;
    how[i].min_p = i % 3 == 2 ? 0.01f : 0.0f;
  }
  return how;
}

}  // namespace

TEST_CASE("the head gives the bits of a product, and its maxima the choices of a pass over all logits") {
  random_source random(3);
  for (const std::int64_t vocabulary : {1, 127, 600, 4099})
    for (const dtype type : {dtype::q8_0, dtype::f16}) {
      stored table(type, vocabulary, width, random);
      for (const isa which : available_isas())
        for (const int threads : {1, 2, 3})
          for (const bool repack : {true, false})
            for (const std::int64_t tokens : {1, 3, 17}) {
              INFO(to_string(which) << ", " << vocabulary << " logits, " << tokens << " rows, " << threads
                                    << " threads");
              const auto lane = make_cpu_lane({threads, which, repack}).value_or_throw();
              const matrix packed = lane->pack(std::vector{table.view()}).value_or_throw();
              dense x(tokens, width, random), plain(tokens, vocabulary), logits(tokens, vocabulary);
              if (tokens == 17) x.values[5 * width] = NAN;  // row 5 holds no number
              lane->linear(*packed, x.view(), plain.view());
              const auto how = ways(tokens);
              const auto wanted = choices(*lane, plain, how);
              lane->head(*packed, x.view(), logits.view());
              CHECK(same_bits(logits.values, plain.values));
              std::vector<sampled> picks(how.size());
              lane->sample(logits.view(), how, picks);
              for (std::size_t i = 0; i < how.size(); ++i) CHECK(picks[i].id == wanted[i]);
              if (tokens == 17) CHECK(picks[5].id == -1);
            }
    }
}

TEST_CASE("maxima serve the logits that they are of, once") {
  random_source random(4);
  const auto lane = make_cpu_lane({2, best_isa(), true}).value_or_throw();
  stored table(dtype::q8_0, 2000, width, random), other(dtype::q8_0, 2000, width, random);
  const matrix packed = lane->pack(std::vector{table.view()}).value_or_throw();
  const matrix second = lane->pack(std::vector{other.view()}).value_or_throw();
  dense x(4, width, random), logits(4, 2000);
  const std::vector<sampling_row> greedy(4);
  std::vector<sampled> picks(4);
  const auto expect_best = [&] {
    for (std::size_t r = 0; r < 4; ++r) {
      const auto row = logits.values.begin() + static_cast<std::ptrdiff_t>(r) * 2000;
      CHECK(picks[r].id == std::max_element(row, row + 2000) - row);
    }
  };
  lane->head(*packed, x.view(), logits.view());
  lane->linear(*second, x.view(), logits.view());  // overwrites them
  lane->sample(logits.view(), greedy, picks);
  expect_best();

  lane->head(*packed, x.view(), logits.view());
  lane->sample(logits.view(), greedy, picks);
  for (std::size_t r = 0; r < 4; ++r) logits.values[r * 2000 + static_cast<std::size_t>(picks[r].id)] = -100.0f;
  lane->sample(logits.view(), greedy, picks);  // others' logits now
  expect_best();
}
