// The driver of whole workloads, on a CPU lane with a small random network.
#include "cli/planned_steps.hpp"

#include <map>
#include <random>

#include "kernels/cpu/cpu_lane.hpp"
#include "models/llama/llama_random.hpp"
#include "support/catch.hpp"
#include "support/played_copies.hpp"

using namespace troupe;

namespace {

std::shared_ptr<const models::loaded_model> small_model(kernels::lane& lane) {
  models::model_shape shape;
  shape.layers = 1, shape.width = 64, shape.heads = 2, shape.kv_heads = 1, shape.head_dim = 32, shape.feed_forward = 64;
  shape.vocabulary = 96, shape.context = 512, shape.rms_eps = 1e-5f, shape.rope_base = 10000.0f, shape.rope_dims = 32;
  auto made = models::make_random_llama(shape, false, lane,
                                        [&](models::matrix_role role, std::int64_t rows, std::int64_t cols,
                                            std::uint64_t seed) -> result<kernels::matrix> {
                                          std::mt19937 random(static_cast<unsigned>(seed));
                                          std::normal_distribution<float> value(0.0f, 0.1f);
                                          std::vector<float> numbers(static_cast<std::size_t>(rows * cols));
                                          for (float& one : numbers) one = value(random);
                                          const memory::tensor_view view{numbers.data(), memory::dtype::f32, rows, cols,
                                                                         cols * 4};
                                          // Packed from memory that goes away: only a lane that repacks may be given
                                          // it.
                                          if (role == models::matrix_role::embedding)
                                            return lane.pack_table(view, false);
                                          return lane.pack({&view, 1});
                                        });
  REQUIRE(made);
  auto model = std::make_shared<models::loaded_model>();
  model->network = *std::move(made);
  return model;
}

}  // namespace

TEST_CASE("every sequence of a workload gets its tokens, though memory for all at once is not there") {
  auto lane = kernels::make_cpu_lane({1});
  REQUIRE(lane);
  std::map<actors::generation_id, std::int32_t> came, wanted;
  auto steps = cli::planned_steps::create(
      small_model(**lane), **lane, {8, 64, 40},
      [&](const actors::step_token& token, actors::clock::time_point) { ++came[token.generation]; });
  REQUIRE(steps);
  std::mt19937 random(11);
  for (int i = 0; i < 24; ++i) {
    const auto prompt = 1 + static_cast<std::int32_t>(random() % 90);
    const auto tokens = 1 + static_cast<std::int32_t>(random() % 60);
    wanted[(*steps)->submit(std::vector<std::int32_t>(static_cast<std::size_t>(prompt), 5), tokens)] = tokens;
  }
  REQUIRE((*steps)->finish());
  CHECK(came == wanted);
  CHECK((*steps)->idle());
  const auto figures = (*steps)->take_figures();
  CHECK(figures.steps > 24);
  CHECK(figures.mixed > 0);
}

TEST_CASE("a sequence that was ended brings nothing more") {
  auto lane = kernels::make_cpu_lane({1});
  REQUIRE(lane);
  std::int32_t came = 0;
  auto steps = cli::planned_steps::create(small_model(**lane), **lane, {4, 64, 40},
                                          [&](const actors::step_token&, actors::clock::time_point) { ++came; });
  REQUIRE(steps);
  const auto id = (*steps)->submit({1, 2, 3}, 500);
  (*steps)->end(id);
  REQUIRE((*steps)->finish());
  CHECK(came < 500);
}

TEST_CASE("prompts that come again find their blocks on the host, and say the same with and without it") {
  auto lane = kernels::make_cpu_lane({1});
  REQUIRE(lane);
  const auto model = small_model(**lane);
  std::map<actors::generation_id, std::vector<std::int32_t>> alone, got;
  const auto run = [&](auto& into, std::int64_t host_blocks, int fail_every) {
    cli::planned_steps::options options{4, 64, 30};
    options.share_prefixes = host_blocks > 0;
    options.host_bytes = host_blocks * (*lane)->kv_block_bytes(model->network->shape().kv());
    options.copies = test::play_copies(fail_every);
    into.clear();
    auto steps = cli::planned_steps::create(model, **lane, options, [&](const actors::step_token& token, auto) {
      into[token.generation].push_back(token.id);
    });
    REQUIRE(steps);
    for (std::int32_t i = 0; i < 24; ++i) {
      std::vector<std::int32_t> prompt;
      for (std::int32_t k = 0; k < 60 + i % 6 * 11; ++k) prompt.push_back((k * 7 + i % 6) % 96);
      (*steps)->submit(std::move(prompt), 20);
      if (i % 3 == 2) REQUIRE((*steps)->finish());
    }
    REQUIRE((*steps)->finish());
    return (*steps)->take_figures();
  };
  CHECK(run(alone, 0, 0).blocks_out == 0);
  for (const int fail_every : {0, 4}) {
    const auto figures = run(got, 64, fail_every);
    CHECK(got == alone);
    CHECK(figures.blocks_out > 0);
    CHECK(figures.blocks_in > 0);
  }
}
