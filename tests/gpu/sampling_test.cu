// Sampling on the device against the CPU's sample_row: the same seed and logits must give the same choice. A plain
// program: one line a case, exit status 1 if any failed.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <vector>

#include "kernels/cpu/sample_row.hpp"
#include "kernels/cuda/sampling.hpp"
#include "tests/gpu/device_array.hpp"
#include "tests/support/random_seed.hpp"

using namespace troupe::kernels;
using namespace troupe::kernels::cuda;

namespace {

int failures = 0;
constexpr float infinity = std::numeric_limits<float>::infinity();

/// The rows of one launch, as the device and as the CPU are told of them.
struct sample_case {
  int vocab;
  std::vector<std::vector<float>> logits;
  std::vector<sampling_row> rows;
  std::vector<std::vector<token_count>> seen;
  std::vector<std::vector<std::pair<std::int32_t, float>>> bias;
};

/// The rows whose choice, log-probabilities or last id differ from the CPU's. `counted`: penalties from counts on the
/// device.
int differences(const sample_case& c, bool counted) {
  const std::size_t rows = c.rows.size();
  std::vector<float> all;
  std::vector<sample_parameters> parameters(rows);
  std::vector<seen_token> seen;
  std::vector<token_bias> biases;
  std::vector<std::uint16_t> counts(counted ? rows * static_cast<std::size_t>(c.vocab) : 0);
  for (std::size_t r = 0; r < rows; ++r) {
    all.insert(all.end(), c.logits[r].begin(), c.logits[r].end());
    const sampling_row& how = c.rows[r];
    sample_parameters& p = parameters[r];
    p = {how.temperature,
         how.top_p,
         how.min_p,
         how.repetition_penalty,
         how.presence_penalty,
         how.frequency_penalty,
         how.top_k,
         how.top_logprobs,
         how.seed,
         how.counter};
    if (counted) {
      p.count_row = static_cast<int>(rows - 1 - r);
      for (const token_count& t : c.seen[r])
        counts[static_cast<std::size_t>(p.count_row) * static_cast<std::size_t>(c.vocab) +
               static_cast<std::size_t>(t.id)] =
            static_cast<std::uint16_t>(t.in_output | (t.in_prompt ? in_prompt : 0));
    } else {
      p.first_seen = static_cast<int>(seen.size());
      p.seen = static_cast<int>(c.seen[r].size());
      for (const token_count& t : c.seen[r]) seen.push_back({t.id, t.in_output});
    }
    p.first_bias = static_cast<int>(biases.size());
    p.biases = static_cast<int>(c.bias[r].size());
    for (const auto& [id, value] : c.bias[r]) biases.push_back({id, value});
  }
  std::vector<int> ints{0, 0, static_cast<int>(rows)};
  for (std::size_t r = 0; r < rows; ++r) ints.push_back(static_cast<int>((r * 7 + 3) % rows));
  if (rows % 7 == 0)
    for (std::size_t r = 0; r < rows; ++r) ints[3 + r] = static_cast<int>(r);
  const device_array<int> table(ints);
  device_array<int> last(rows);
  device_array<float> logits(all);
  const device_array<sample_parameters> device_parameters(parameters);
  const device_array<seen_token> device_seen(seen);
  const device_array<token_bias> device_bias(biases);
  device_array<std::uint16_t> device_counts(counts);
  device_array<sample_pick> picks(rows);
  picks.fill(0x5a);
  last.fill(0x5a);
  step_tables tables;
  tables.samples = static_cast<int>(rows) + 2;  // a bucket larger than what is real
  tables.counts = table.data();
  tables.sample_slots = table.data() + 3;
  tables.last_ids = last.data();
  sample_call call;
  call.tables = &tables;
  call.logits = logits.data();
  call.stride = c.vocab;
  call.vocab = c.vocab;
  call.parameters = device_parameters.data();
  call.seen = device_seen.data();
  call.biases = device_bias.data();
  call.counts = counted ? device_counts.data() : nullptr;
  call.picks = picks.data();
  sample(call, nullptr);
  must(cudaGetLastError(), "sample");
  must(cudaDeviceSynchronize(), "sample");

  const std::vector<sample_pick> got = picks.download();
  const std::vector<int> last_ids = last.download();
  const std::vector<std::uint16_t> counts_after = device_counts.download();
  sample_scratch scratch;
  int wrong = 0;
  for (std::size_t r = 0; r < rows; ++r) {
    std::vector<float> copy = c.logits[r];
    const sampled expected = sample_row(copy, c.rows[r], scratch);
    bool same = got[r].id == expected.id && last_ids[static_cast<std::size_t>(ints[3 + r])] == expected.id;
    if (expected.id >= 0 && c.rows[r].top_logprobs >= 0) {
      same = same && std::abs(got[r].logprob - expected.logprob) < 1e-4f * (1 + std::abs(expected.logprob)) &&
             got[r].tops == static_cast<int>(expected.top.size());
      for (std::size_t i = 0; same && i < expected.top.size(); ++i)
        same = got[r].top_ids[i] == expected.top[i].first && std::abs(got[r].top_logprobs[i] - expected.top[i].second) <
                                                                 1e-4f * (1 + std::abs(expected.top[i].second));
    }
    if (counted && expected.id >= 0) {
      const std::size_t at = static_cast<std::size_t>(parameters[r].count_row) * static_cast<std::size_t>(c.vocab) +
                             static_cast<std::size_t>(expected.id);
      same = same && counts_after[at] == counts[at] + 1;
    }
    if (!same && wrong < 3)
      std::printf(
          "      row %zu: got %d (%g, %d tops), expected %d (%g, %zu tops); temperature %g top_k %d top_p %g min_p "
          "%g\n",
          r, got[r].id, static_cast<double>(got[r].logprob), got[r].tops, expected.id,
          static_cast<double>(expected.logprob), expected.top.size(), static_cast<double>(c.rows[r].temperature),
          c.rows[r].top_k, static_cast<double>(c.rows[r].top_p), static_cast<double>(c.rows[r].min_p));
    wrong += !same;
  }
  return wrong;
}

enum class spread { normal, narrow, wide, peaked, stepped, equal };

sample_case make_case(std::mt19937& random, int rows, int vocab, spread how, bool penalties) {
  sample_case c;
  c.vocab = vocab;
  c.seen.resize(static_cast<std::size_t>(rows));
  c.bias.resize(static_cast<std::size_t>(rows));
  std::normal_distribution<float> normal;
  std::uniform_real_distribution<float> unit;
  for (int r = 0; r < rows; ++r) {
    std::vector<float> logits(static_cast<std::size_t>(vocab));
    for (float& x : logits) {
      x = normal(random);
      if (how == spread::narrow) x *= 0.01f;
      if (how == spread::wide) x *= 8;
      if (how == spread::peaked) x = 2 * x + (random() % 3000 == 0 ? 15.0f : 0.0f);
      if (how == spread::stepped) x = std::round(x);
      if (how == spread::equal) x = 1.5f;
    }
    if (r % 5 == 4)
      for (int i = 0; i < vocab / 2; ++i) logits[random() % logits.size()] = -infinity;
    sampling_row row;
    row.temperature = r % 8 == 0 ? 0.0f : 0.3f + 1.5f * unit(random);
    if (r % 8 == 1 || r % 8 == 4 || r % 8 == 6) row.top_k = 1 + static_cast<int>(random() % (r % 3 == 0 ? 3000 : 60));
    if (r % 8 == 2 || r % 8 == 4 || r % 8 == 7) row.top_p = 0.05f + 0.94f * unit(random);
    if (r % 8 == 3 || r % 8 == 4 || r % 8 == 7) row.min_p = 0.2f * unit(random) * unit(random);
    row.seed = (std::uint64_t{random()} << 32) | random();
    row.counter = random();
    row.top_logprobs = static_cast<int>(random() % 23) - 2;
    if (row.top_logprobs < -1) row.top_logprobs = -1;
    if (penalties && r % 3 != 0) {
      row.repetition_penalty = 1.0f + unit(random);
      row.presence_penalty = unit(random);
      row.frequency_penalty = unit(random) - 0.3f;
      std::vector<bool> known(static_cast<std::size_t>(vocab));
      for (int i = 0; i < 700; ++i) {
        const auto id = static_cast<std::int32_t>(random() % logits.size());
        if (known[static_cast<std::size_t>(id)]) continue;
        known[static_cast<std::size_t>(id)] = true;
        const auto times = static_cast<std::int32_t>(random() % 5);
        c.seen[static_cast<std::size_t>(r)].push_back({id, times, times == 0 || random() % 2 == 0});
      }
      std::fill(known.begin(), known.end(), false);
      for (int i = 0; i < 40; ++i) {
        const auto id = static_cast<std::int32_t>(random() % logits.size());
        if (!known[static_cast<std::size_t>(id)])
          c.bias[static_cast<std::size_t>(r)].emplace_back(id, 10 * normal(random));
        known[static_cast<std::size_t>(id)] = true;
      }
    }
    c.logits.push_back(std::move(logits));
    c.rows.push_back(row);
  }
  for (int r = 0; r < rows; ++r) {
    c.rows[static_cast<std::size_t>(r)].seen = c.seen[static_cast<std::size_t>(r)];
    c.rows[static_cast<std::size_t>(r)].bias = c.bias[static_cast<std::size_t>(r)];
  }
  return c;
}

void check(const char* name, const sample_case& c, bool counted = false) {
  const int wrong = differences(c, counted);
  std::printf("%s  %s: %d of %zu rows of %d differ\n", wrong ? "FAIL" : "PASS", name, wrong, c.rows.size(), c.vocab);
  failures += wrong != 0;
}

}  // namespace

/// An argument N: an Nth of the rows and of the vocabularies, for tools that slow the device down.
int main(int argc, char** argv) {
  const int less = argc > 1 ? std::max(std::atoi(argv[1]), 1) : 1;
  const auto share_of = [&](int all) { return (all + less - 1) / less; };
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  const unsigned seed = troupe::test::random_seed();
  std::printf("seed %u; vocabularies to %d\n", seed, most_vocab());
  std::mt19937 random(seed);
  check("sampling: as logits are", make_case(random, share_of(64), share_of(49152), spread::normal, false));
  check("sampling: a large vocabulary", make_case(random, share_of(32), share_of(151936), spread::normal, false));
  check("sampling: nearly flat", make_case(random, share_of(32), share_of(151936), spread::narrow, false));
  check("sampling: steep", make_case(random, share_of(32), share_of(49152), spread::wide, false));
  check("sampling: a few peaks", make_case(random, share_of(32), share_of(128256), spread::peaked, false));
  check("sampling: many ties", make_case(random, share_of(32), share_of(49152), spread::stepped, false));
  check("sampling: nothing but ties", make_case(random, share_of(32), share_of(20000), spread::equal, false));
  check("sampling: odd vocabularies", make_case(random, share_of(16), share_of(1237), spread::normal, false));
  check("sampling: three tokens", make_case(random, share_of(16), share_of(3), spread::normal, false));
  check("sampling: one token", make_case(random, share_of(16), share_of(1), spread::normal, false));
  check("sampling: penalties and bias", make_case(random, share_of(33), share_of(32000), spread::normal, true));
  check("sampling: penalties from counts", make_case(random, share_of(33), share_of(32001), spread::normal, true),
        true);
  sample_case bad = make_case(random, 9, 5000, spread::normal, false);
  bad.logits[1][77] = std::nanf("");
  bad.logits[3][4999] = infinity;
  bad.logits[5].assign(5000, -infinity);
  bad.logits[8][0] = -std::nanf("");
  check("sampling: rows that are no numbers", bad);
  auto cold = make_case(random, share_of(16), share_of(1237), spread::stepped, false);
  for (auto& row : cold.rows) row.temperature = 1e-39f;  // its inverse is no float
  check("sampling: temperatures next to none", cold);
  if (less == 1) {  // compute-sanitizer does not get through so many rows
    sample_case many = make_case(random, 1201, 1501, spread::stepped, false);  // a cluster has several, in two turns
    check("sampling: more rows than the device holds clusters", many);
    for (std::size_t r = 0; r < many.rows.size(); ++r)
      if (r % 5 != 0) many.rows[r] = sampling_row();
    many.logits[1001][3] = std::nanf("");
    many.logits[1002].assign(1501, -infinity);
    check("sampling: most of them for their best alone", many);
  }
  std::printf("%s\n", failures ? "FAILED" : "all passed");
  return failures != 0;
}
