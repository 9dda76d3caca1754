// How long a step takes, learned from the steps that ended: linear in its rows and in the keys that they attend to.
// A pure value; knows no plan and no clock.
#pragma once

#include <array>
#include <cstdint>

namespace troupe::actors {

/// What a step's time depends on.
struct step_size {
  std::int32_t decode_rows = 0;
  std::int64_t decode_keys = 0;  ///< of all decode rows
  std::int32_t prompt_rows = 0;
  std::int64_t prompt_keys = 0;  ///< of all prompt rows: rows * (past + rows / 2)
};

/// Recursive least squares over weights that may drift (a Kalman filter of a random walk): a machine that slows down is
/// believed within some hundred steps. An observation far from what was foreseen weighs little, unless it is the third
/// in turn: then what was foreseen is what is wrong.
class step_cost {
public:
  step_cost();

  void observe(const step_size& size, double milliseconds);
  /// Never below zero. Of use once `known()`.
  double predict(const step_size& size) const;
  /// Milliseconds that one prompt row more costs where it attends to `keys` keys; never below zero.
  double prompt_row(std::int64_t keys) const;
  /// Enough steps of both kinds were seen.
  bool known() const { return knows_decodes() && prompts_ >= 4; }
  /// Enough without prompt rows.
  bool knows_decodes() const { return decodes_ >= 8; }

private:
  static constexpr std::size_t terms = 5;
  using vector = std::array<double, terms>;
  static vector terms_of(const step_size& size);
  static double dot(const vector& a, const vector& b);

  vector weights_{};
  std::array<vector, terms> spread_{};  // covariance of the weights
  std::array<std::int32_t, 2> far_{};   // in turn were far from what was foreseen: without prompt rows, with
  std::int64_t decodes_ = 0;            // steps without prompt rows
  std::int64_t prompts_ = 0;
};

}  // namespace troupe::actors
