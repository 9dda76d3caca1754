// The forward pass against the plain one, and that a row's result depends on its own sequence only.
#include <cmath>

#include "kernels/cpu/cpu_lane.hpp"
#include "models/gguf/gguf_file.hpp"
#include "support/catch.hpp"
#include "support/random_seed.hpp"
#include "tests/models/llama/exact_lane.hpp"
#include "tests/models/llama/plain_llama.hpp"
#include "tests/models/llama/step_driver.hpp"
#include "tests/support/default_model.hpp"
#include "tests/support/tiny_model.hpp"

using namespace troupe;
using memory::dtype;
using test::step_rows;

namespace {

std::vector<std::int32_t> some_ids(std::size_t count, std::uint32_t seed,
                                   std::int32_t vocabulary = test::tiny_vocabulary_size) {
  std::mt19937 random(seed);
  std::vector<std::int32_t> ids(count);
  for (auto& id : ids) id = static_cast<std::int32_t>(random() % static_cast<std::uint32_t>(vocabulary));
  return ids;
}

std::shared_ptr<const models::loaded_model> load(const std::string& path, kernels::lane& lane) {
  auto model = models::load_model(path, lane);
  INFO((model.ok() ? "" : model.why().text));
  REQUIRE(model.ok());
  return *std::move(model);
}

std::unique_ptr<kernels::cpu_lane> make_lane(kernels::isa which, int threads = 2) {
  kernels::cpu_lane_options options;
  options.threads = threads;
  options.which = which;
  auto lane = kernels::make_cpu_lane(options);
  REQUIRE(lane.ok());
  return *std::move(lane);
}

constexpr dtype all_types[] = {dtype::f32,  dtype::f16,    dtype::bf16,   dtype::q4_0, dtype::q4_1, dtype::q5_0,
                               dtype::q5_1, dtype::q8_0,   dtype::q2_k,   dtype::q3_k, dtype::q4_k, dtype::q5_k,
                               dtype::q6_k, dtype::iq4_nl, dtype::iq4_xs, dtype::mxfp4};

/// All rows are whole blocks of 256.
test::tiny_model_options wide_model() {
  test::tiny_model_options options;
  options.width = 256;
  options.heads = 4;
  options.kv_heads = 2;
  options.head_dim = 64;
  options.feed_forward = 512;
  return options;
}

struct differences {
  double average;  ///< root mean square, as a part of that of the expected logits
  double worst;
};

differences distance(const std::vector<std::vector<float>>& found, const std::vector<std::vector<double>>& expected) {
  double squares = 0, off = 0, worst = 0;
  for (std::size_t t = 0; t < expected.size(); ++t) {
    for (std::size_t i = 0; i < expected[t].size(); ++i) {
      const double difference = expected[t][i] - found[t][i];
      squares += expected[t][i] * expected[t][i];
      off += difference * difference;
      worst = std::abs(difference) <= worst ? worst : std::abs(difference);  // a NaN stays
    }
  }
  return {std::sqrt(off / squares), worst};
}

void check_against_plain(const test::tiny_model_options& options) {
  const test::scratch_path path(".gguf");
  REQUIRE(test::write_tiny_model(path.string(), options));
  for (const kernels::isa which : kernels::available_isas()) {
    test::exact_lane lane(make_lane(which));
    const auto model = load(path.string(), lane);
    const auto ids = some_ids(40, 11);
    test::step_driver driver(*model, lane, 1, 64);
    const auto logits = driver.run({{0, ids}});
    const auto expected = test::plain_llama(*model->file, model->shape(), ids);
    INFO(kernels::to_string(which));
    const auto off = distance(logits, expected);
    CHECK(off.average < 3e-4);  // queries, K and V in 16 bits
    CHECK(off.worst < 5e-3);
    CHECK(std::abs(expected[39][5]) > 1e-3);
  }
}

/// The logits of three sequences run alone, whole, and the same in odd chunks beside each other.
void check_invariance(const models::loaded_model& model, kernels::lane& lane) {
  const std::int32_t vocabulary = model.shape().vocabulary;
  std::vector<std::vector<std::int32_t>> ids;
  std::vector<std::vector<std::vector<float>>> alone;
  for (std::uint32_t s = 0; s < 3; ++s) {
    ids.push_back(some_ids(37 + s, s, vocabulary));
    test::step_driver driver(model, lane, 1, 64);
    alone.push_back(driver.run({{0, ids.back()}}));
  }
  test::step_driver together(model, lane, 3, 64);
  std::mt19937 random(17);
  std::vector<std::size_t> done(3, 0);
  while (done[0] < ids[0].size() || done[1] < ids[1].size() || done[2] < ids[2].size()) {
    std::vector<step_rows> step;
    for (std::size_t s = 0; s < 3; ++s) {
      const std::size_t rows = std::min<std::size_t>(random() % 3 == 0 ? random() % 18 : 1, ids[s].size() - done[s]);
      if (rows == 0) continue;
      const auto first = ids[s].begin() + static_cast<std::ptrdiff_t>(done[s]);
      step.push_back({static_cast<int>(s), {first, first + static_cast<std::ptrdiff_t>(rows)}});
    }
    if (step.empty()) continue;
    const auto logits = together.run(step);
    std::size_t at = 0;
    for (const step_rows& part : step) {
      const auto s = static_cast<std::size_t>(part.sequence);
      for (std::size_t r = 0; r < part.ids.size(); ++r) REQUIRE(logits[at++] == alone[s][done[s]++]);
    }
  }
}

}  // namespace

TEST_CASE("the forward pass agrees with the plain one for every weight type") {
  for (const dtype type : all_types) {
    test::tiny_model_options options;
    if (memory::info(type).block == 256) options = wide_model();
    options.weights = type;
    options.embedding = type;
    INFO(memory::info(type).name);
    check_against_plain(options);
  }
}

TEST_CASE("a file that mixes all types runs, within what 8-bit activations cost, as its dequantised weights do") {
  test::tiny_model_options options = wide_model();
  options.layers = 3;
  options.tied = false;
  options.mix.assign(std::begin(all_types), std::end(all_types));
  check_against_plain(options);
  const test::scratch_path path(".gguf");
  REQUIRE(test::write_tiny_model(path.string(), options));
  for (const kernels::isa which : kernels::available_isas()) {
    const auto lane = make_lane(which);
    const auto model = load(path.string(), *lane);
    const auto ids = some_ids(40, 12);
    test::step_driver driver(*model, *lane, 1, 64);
    const auto logits = driver.run({{0, ids}});
    const auto expected = test::plain_llama(*model->file, model->shape(), ids);
    INFO(kernels::to_string(which));
    CHECK(distance(logits, expected).average < 0.04);
  }
}

TEST_CASE("the forward pass agrees with the plain one for untied heads, frequency factors and other shapes") {
  test::tiny_model_options options;
  options.tied = false;
  options.rope_factors = true;
  options.layers = 3;
  options.heads = 6;
  options.kv_heads = 2;
  options.head_dim = 64;  // heads * head_dim is not the width
  options.width = 96;
  options.feed_forward = 160;
  check_against_plain(options);
}

TEST_CASE("a row's logits are the same bits alone or in a batch, in one chunk or many") {
  const test::scratch_path path(".gguf");
  for (const dtype type : all_types) {
    test::tiny_model_options options;
    if (memory::info(type).block == 256) options = wide_model();
    options.weights = type;
    REQUIRE(test::write_tiny_model(path.string(), options));
    for (const kernels::isa which : kernels::available_isas()) {
      INFO(memory::info(type).name << " " << kernels::to_string(which));
      const auto lane = make_lane(which);
      check_invariance(*load(path.string(), *lane), *lane);
    }
  }
}

TEST_CASE("the default model's logits are the same bits alone or in a batch, in one chunk or many") {
  const auto path = test::default_model();
  if (!path) return;
  const auto lane = make_lane(kernels::best_isa());
  check_invariance(*load(*path, *lane), *lane);
}

TEST_CASE("the number of threads changes no bit") {
  const test::scratch_path path(".gguf");
  REQUIRE(test::write_tiny_model(path.string()));
  std::vector<std::vector<float>> first;
  for (const int threads : {1, 2, 3}) {
    const auto lane = make_lane(kernels::best_isa(), threads);
    const auto model = load(path.string(), *lane);
    test::step_driver driver(*model, *lane, 1, 64);
    const auto logits = driver.run({{0, some_ids(50, 2)}});
    if (first.empty()) first = logits;
    CHECK(logits == first);
  }
}

TEST_CASE("layers run range by range give the bits of one pass") {
  const test::scratch_path path(".gguf");
  test::tiny_model_options options;
  options.layers = 5;
  REQUIRE(test::write_tiny_model(path.string(), options));
  const auto lane = make_lane(kernels::best_isa());
  const auto model = load(path.string(), *lane);
  const auto ids = some_ids(20, 3);
  test::step_driver whole(*model, *lane, 1, 32);
  test::step_driver parts(*model, *lane, 1, 32);
  const auto expected = whole.run({{0, ids}});
  CHECK(parts.run({{0, ids}}, {0, 2}).empty());
  CHECK(parts.run({{0, ids}}, {2, 3}).empty());
  CHECK(parts.run({{0, ids}}, {3, 5}) == expected);
}

TEST_CASE("only the rows wanted get logits, the same as where all are wanted") {
  const test::scratch_path path(".gguf");
  REQUIRE(test::write_tiny_model(path.string()));
  std::mt19937 random(test::random_seed());
  for (const kernels::isa which : kernels::available_isas()) {
    const auto lane = make_lane(which, 2);
    test::check_wanted_rows(*load(path.string(), *lane), *lane, random);
  }
}
