// One small step of every op on several threads, for the thread sanitizer, against the same step on one thread.
#include "support/catch.hpp"

#include "kernels/cpu/cpu_lane.hpp"
#include "tests/kernels/test_tensors.hpp"

using namespace troupe;
using namespace troupe::kernels;
using namespace troupe::kernels::testing;

namespace {

constexpr std::int64_t width = 64, rows = 40, vocabulary = 600;
constexpr std::int32_t heads = 4, kv_heads = 2, dim = 16, blocks = 64;

struct step_result {
  std::vector<float> x;
  std::vector<std::int32_t> ids;
};

step_result run_step(int threads) {
  const auto lane = make_cpu_lane({threads, best_isa(), true}).value_or_throw();
  random_source random(1);
  stored table(dtype::q8_0, vocabulary, width, random), qkv_weight(dtype::q4_1, 128, width, random);
  stored wide(dtype::q4_0, 512, width, random), tall(dtype::f16, width, 256, random);
  dense gain(1, width, random), x(rows, width), scratch(rows, width), qkv(rows, 128), mixed(rows, width);
  dense gate_up(rows, 512), inner(rows, 256), logits(rows, vocabulary);
  const matrix head = lane->pack(std::vector{table.view()}).value_or_throw();
  const matrix first = lane->pack(std::vector{qkv_weight.view()}).value_or_throw();
  const matrix second = lane->pack(std::vector{wide.view()}).value_or_throw();
  const matrix third = lane->pack(std::vector{tall.view()}).value_or_throw();
  const auto kv = lane->make_kv({1, kv_heads, dim}, blocks).value_or_throw();
  std::vector<std::int32_t> table_of_one(blocks), ids(rows);
  for (std::int32_t i = 0; i < blocks; ++i) table_of_one[static_cast<std::size_t>(i)] = blocks - 1 - i;
  for (std::int32_t i = 0; i < rows; ++i) ids[static_cast<std::size_t>(i)] = i * 7;
  const std::vector<sequence_rows> batch{{0, rows, 600, table_of_one}};  // earlier tokens are zeros
  lane->embed(*head, ids, x.view());
  lane->norm_linear(x.view(), gain.view(), 1e-5f, *first, scratch.view(), qkv.view());
  lane->rope_store(qkv.view(), heads, {10000.0f, dim, true, {}}, 0, *kv, batch);
  lane->attention(qkv.view(), heads, 0.25f, 0, *kv, batch, mixed.view());
  lane->norm_linear(mixed.view(), gain.view(), 1e-5f, *second, scratch.view(), gate_up.view());
  lane->silu_mul(gate_up.view(), inner.view());
  lane->linear_add(*third, inner.view(), x.view());
  lane->rms_norm(x.view(), gain.view(), 1e-5f, scratch.view());
  lane->head(*head, scratch.view(), logits.view());
  std::vector<sampling_row> how(rows);
  std::vector<sampled> picks(rows);
  for (std::size_t i = 0; i < how.size(); ++i) how[i].temperature = i % 2 == 0 ? 0.0f : 0.9f, how[i].seed = i;
  lane->sample(logits.view(), how, picks);
  step_result found{x.values, {}};
  for (const sampled& pick : picks) found.ids.push_back(pick.id);
  return found;
}

}  // namespace

TEST_CASE("a step gives the same bits and the same tokens on any number of threads") {
  const step_result expected = run_step(1);
  for (const int threads : {2, 3, 4}) {
    const step_result found = run_step(threads);
    CHECK(same_bits(found.x, expected.x));
    CHECK(found.ids == expected.ids);
  }
  for (const std::int32_t id : expected.ids) CHECK((id >= 0 && id < vocabulary));
}
