// Weights without a copy, and files that are cut short while they are read: an error, never a fault of the process.
#include <filesystem>

#include "kernels/cpu/cpu_lane.hpp"
#include "models/evaluate.hpp"
#include "models/model.hpp"
#include "support/catch.hpp"
#include "tests/support/tiny_model.hpp"

using namespace troupe;
using memory::dtype;

namespace {

constexpr std::int32_t prompt[] = {7, 40, 200, 9, 77, 12};

/// Every type that weights can have, in one file.
const test::tiny_model_options every_type{
    .width = 256,
    .heads = 4,
    .kv_heads = 2,
    .head_dim = 64,
    .feed_forward = 512,
    .mix = {dtype::q4_0, dtype::q4_1, dtype::q5_0, dtype::q5_1, dtype::q8_0, dtype::q2_k, dtype::q3_k, dtype::q4_k,
            dtype::q5_k, dtype::q6_k, dtype::iq4_nl, dtype::iq4_xs, dtype::mxfp4, dtype::f16, dtype::bf16, dtype::f32},
    .tied = false};

std::unique_ptr<kernels::cpu_lane> lane_with(const kernels::cpu_lane_options& options) {
  return kernels::make_cpu_lane(options).value_or_throw();
}

std::vector<std::int32_t> answer(const std::string& path, kernels::cpu_lane& lane) {
  const auto model = models::load_model(path, lane).value_or_throw();
  auto evaluator = models::evaluator::create(model, lane, 64).value_or_throw();
  return evaluator.continue_greedily(prompt, 12).value_or_throw().greedy;
}

}  // namespace

TEST_CASE("weights of every type give the same text from the file's pages as repacked") {
  const test::scratch_path path(".gguf");
  REQUIRE(test::write_tiny_model(path.string(), every_type));
  const auto packing = lane_with({.threads = 2});
  const auto plain = lane_with({.threads = 2, .repack = false});
  const auto expected = answer(path.string(), *packing);
  CHECK(answer(path.string(), *plain) == expected);
  CHECK(packing->repacks());
  CHECK_FALSE(plain->repacks());
}

TEST_CASE("where a copy would not fit into memory, weights are computed with from the file's pages") {
  const test::scratch_path path(".gguf");
  REQUIRE(test::write_tiny_model(path.string()));
  const auto roomy = lane_with({});
  const auto tight = lane_with({.weight_memory_bytes = 1 << 20});
  CHECK(answer(path.string(), *tight) == answer(path.string(), *roomy));
  CHECK_FALSE(tight->repacks());
  CHECK(roomy->repacks());
}

TEST_CASE("a file that is cut short while it loads gives an error at every point") {
  test::scratch_path path(".gguf");
  for (const bool repack : {true, false})
    for (int calls_before = 1; calls_before < 6; ++calls_before) {
      REQUIRE(test::write_tiny_model(path.string()));
      const auto lane = lane_with({.threads = 2, .repack = repack});
      int calls = 0;
      const auto model = models::load_model(path.string(), *lane, [&](std::int64_t, std::int64_t) {
        if (++calls == calls_before) std::filesystem::resize_file(path.string(), 4096);
      });
      REQUIRE_FALSE(model.ok());
      CHECK(model.why().code == errc::io);
      CHECK(model.why().text.find(path.string()) != std::string::npos);
    }
}

TEST_CASE("a repacked model does not need its file any more") {
  const test::scratch_path path(".gguf");
  REQUIRE(test::write_tiny_model(path.string()));
  const auto lane = lane_with({.threads = 2});
  const auto expected = answer(path.string(), *lane);
  const auto model = models::load_model(path.string(), *lane).value_or_throw();
  std::filesystem::resize_file(path.string(), 0);
  auto evaluator = models::evaluator::create(model, *lane, 64).value_or_throw();
  CHECK(evaluator.continue_greedily(prompt, 12).value_or_throw().greedy == expected);
}

TEST_CASE("a model that computes from its file fails when that is cut short, and only that model") {
  const test::scratch_path path(".gguf"), other(".gguf");
  REQUIRE(test::write_tiny_model(path.string()));
  REQUIRE(test::write_tiny_model(other.string()));
  const auto lane = lane_with({.threads = 2, .repack = false});
  const auto model = models::load_model(path.string(), *lane).value_or_throw();
  auto evaluator = models::evaluator::create(model, *lane, 64).value_or_throw();
  REQUIRE(evaluator.continue_greedily(prompt, 2).ok());
  std::filesystem::resize_file(path.string(), 4096);
  CHECK_THROWS_AS(evaluator.continue_greedily(prompt, 2), failure);
  const auto second = lane_with({.threads = 2, .repack = false});
  CHECK(answer(other.string(), *second).size() == 12);
}
