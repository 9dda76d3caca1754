// Terms are scaled so that each weight is a few milliseconds on any machine worth serving from.
#include "actors/scheduler/step_cost.hpp"

#include <algorithm>
#include <cmath>

namespace troupe::actors {
namespace {

constexpr double first_spread = 100.0;  // of weights nobody knows yet: a standard deviation of 10 ms
constexpr double doubt = 1.0;           // more of each weight's variance once it was far off too often
constexpr std::int32_t most_far = 2;
constexpr double drift = 0.002;  // a step, of each weight's variance
constexpr double rows_scale = 1.0 / 256, keys_scale = 1.0 / (256 * 1024), prompt_keys_scale = 1.0 / (256 * 4096);

}  // namespace

step_cost::step_cost() {
  for (std::size_t i = 0; i < terms; ++i) spread_[i][i] = first_spread;
}

step_cost::vector step_cost::terms_of(const step_size& size) {
  return {1.0, size.decode_rows * rows_scale, static_cast<double>(size.decode_keys) * keys_scale,
          size.prompt_rows * rows_scale, static_cast<double>(size.prompt_keys) * prompt_keys_scale};
}

double step_cost::dot(const vector& a, const vector& b) {
  double sum = 0;
  for (std::size_t i = 0; i < terms; ++i) sum += a[i] * b[i];
  return sum;
}

void step_cost::observe(const step_size& size, double milliseconds) {
  const vector x = terms_of(size);
  const double wrong = milliseconds - dot(weights_, x);
  vector px{};
  for (std::size_t i = 0; i < terms; ++i) px[i] = dot(spread_[i], x);
  const double expected = dot(x, px);  // variance of the prediction
  double noise = 0.01 + 0.0025 * milliseconds * milliseconds;
  std::int32_t& far = far_[size.prompt_rows > 0];
  const bool stalled = knows_decodes() && wrong * wrong > 25 * (noise + expected);
  far = stalled ? far + 1 : 0;
  if (stalled && far <= most_far) noise = wrong * wrong;  // a stall tells nothing of the rows
  const double total = expected + noise;
  for (std::size_t i = 0; i < terms; ++i) weights_[i] += px[i] * wrong / total;
  for (std::size_t i = 0; i < terms; ++i)
    for (std::size_t j = 0; j < terms; ++j) spread_[i][j] -= px[i] * px[j] / total;
  // Without a bound, what no step has shown for long would be believed less and less, and then anything.
  for (std::size_t i = 0; i < terms; ++i)
    spread_[i][i] = std::min(spread_[i][i] + (far > most_far ? doubt : drift), std::max(first_spread, spread_[i][i]));
  ++(size.prompt_rows > 0 ? prompts_ : decodes_);
}

double step_cost::predict(const step_size& size) const { return std::max(0.0, dot(weights_, terms_of(size))); }

double step_cost::prompt_row(std::int64_t keys) const {
  return std::max(0.0, weights_[3] * rows_scale + weights_[4] * prompt_keys_scale * static_cast<double>(keys));
}

}  // namespace troupe::actors
