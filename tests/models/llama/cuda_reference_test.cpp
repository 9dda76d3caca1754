// The default model's reference answers on the device: weights as the file has them, activations bf16.
#include "support/catch.hpp"
#include "support/gpu.hpp"
#include "tests/models/llama/reference_checks.hpp"
#include "tests/support/default_model.hpp"

using namespace troupe;

TEST_CASE("the default model agrees with the reference on the device") {
  const auto lane = test::cuda_lane_or_skip();
  if (!lane) return;
  const auto path = test::default_model();
  if (!path) return;
  auto model = std::move(models::load_model(*path, *lane)).value_or_throw();
  auto evaluator = std::move(models::evaluator::create(std::move(model), *lane, 1024)).value_or_throw();
  test::check_logits(evaluator);
  test::check_greedy(evaluator);
  test::check_likelihood(evaluator);
}
