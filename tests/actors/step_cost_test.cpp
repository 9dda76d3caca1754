// The cost of steps, learned from made-up machines.
#include "actors/scheduler/step_cost.hpp"

#include <random>

#include "support/catch.hpp"

using namespace troupe::actors;

namespace {

struct machine {
  double step = 3.5, decode_row = 0.02, decode_key = 3e-5, prompt_row = 0.021, prompt_key = 1.2e-6;
  double takes(const step_size& s) const {
    return step + decode_row * s.decode_rows + decode_key * static_cast<double>(s.decode_keys) +
           prompt_row * s.prompt_rows + prompt_key * static_cast<double>(s.prompt_keys);
  }
};

step_size drawn(std::mt19937& random) {
  step_size size;
  size.decode_rows = 1 + static_cast<std::int32_t>(random() % 64);
  size.decode_keys = size.decode_rows * static_cast<std::int64_t>(100 + random() % 2000);
  if (random() % 2 == 0) {
    size.prompt_rows = 16 + static_cast<std::int32_t>(random() % 512);
    size.prompt_keys = size.prompt_rows * static_cast<std::int64_t>(random() % 16000);
  }
  return size;
}

}  // namespace

TEST_CASE("a machine's cost is foreseen to a tenth after a hundred steps that vary by a twentieth") {
  std::mt19937 random(3);
  std::normal_distribution<double> noise(1.0, 0.05);
  const machine real;
  step_cost cost;
  for (int i = 0; i < 100; ++i) {
    const step_size size = drawn(random);
    cost.observe(size, real.takes(size) * noise(random));
  }
  for (int i = 0; i < 100; ++i) {
    const step_size size = drawn(random);
    CHECK(cost.predict(size) == Approx(real.takes(size)).epsilon(0.1));
  }
  CHECK(cost.prompt_row(8000) == Approx(real.prompt_row + 8000 * real.prompt_key).epsilon(0.15));
}

TEST_CASE("a stall is not believed, a machine that slows down is") {
  std::mt19937 random(4);
  machine real;
  step_cost cost;
  for (int i = 0; i < 200; ++i) {
    const step_size size = drawn(random);
    cost.observe(size, real.takes(size));
  }
  const step_size probe{32, 32 * 500, 256, 256 * 4000};
  const double before = cost.predict(probe);
  cost.observe(probe, 900.0);
  CHECK(cost.predict(probe) == Approx(before).epsilon(0.2));
  real.step *= 1.4, real.prompt_row *= 1.4, real.decode_row *= 1.4;
  for (int i = 0; i < 600; ++i) {
    const step_size size = drawn(random);
    cost.observe(size, real.takes(size));
  }
  CHECK(cost.predict(probe) == Approx(real.takes(probe)).epsilon(0.15));
}

TEST_CASE("a cost learned wrongly is given up within some steps") {
  std::mt19937 random(6);
  step_cost cost;
  machine seemed, real;
  seemed.prompt_row = 0.001, seemed.prompt_key = 0;
  real.prompt_row = 0.1;
  const auto mixed = [&](std::int32_t most) {
    const auto rows = 16 + static_cast<std::int32_t>(random() % static_cast<std::uint32_t>(most));
    return step_size{32, 32 * 700, rows, rows * 4000};
  };
  for (int i = 0; i < 200; ++i) {
    const step_size size = i % 2 == 0 ? mixed(100) : step_size{32, 32 * 700, 0, 0};
    cost.observe(size, seemed.takes(size));
  }
  for (int i = 0; i < 12; ++i) {
    const step_size size = mixed(1000);
    cost.observe(size, real.takes(size));
  }
  const step_size probe{32, 32 * 700, 512, 512 * 4000};
  CHECK(cost.predict(probe) == Approx(real.takes(probe)).epsilon(0.2));
}

TEST_CASE("decodes alone for long leave what a prompt row costs as it was") {
  std::mt19937 random(5);
  const machine real;
  step_cost cost;
  for (int i = 0; i < 200; ++i) {
    const step_size size = drawn(random);
    cost.observe(size, real.takes(size));
  }
  const double row = cost.prompt_row(1000);
  for (int i = 0; i < 20000; ++i) cost.observe({32, 32 * 700, 0, 0}, real.takes({32, 32 * 700, 0, 0}));
  CHECK(cost.prompt_row(1000) == Approx(row).epsilon(0.2));
}
