// The largest logit of each run of each row, found by the head's product while it has the logits at hand: sampling then
// reads the runs that matter. Knows no product and no sampling.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cpu/sample_passes.hpp"
#include "memory/tensor_view.hpp"

namespace troupe::kernels {

class row_maxima {
public:
  static constexpr std::int64_t runs_of(std::int64_t cols) noexcept { return (cols + sample_run - 1) / sample_run; }

  /// Room for the maxima of `logits`; those of other logits are forgotten.
  void begin(const memory::tensor_view& logits) {
    of_ = logits.f32();
    rows_ = logits.rows;
    runs_ = runs_of(logits.cols);
    if (best_.size() < static_cast<std::size_t>(rows_ * runs_)) best_.resize(static_cast<std::size_t>(rows_ * runs_));
  }
  /// To be called where logits are written by anybody else.
  void forget(const float* logits) noexcept {
    if (of_ == logits) of_ = nullptr;
  }

  float* row(std::int64_t r) noexcept { return best_.data() + r * runs_; }

  /// Empty where nothing is known of them.
  std::span<const float> row_of(const memory::tensor_view& logits, std::int64_t r) const noexcept {
    if (of_ != logits.f32() || r >= rows_ || runs_of(logits.cols) != runs_) return {};
    return {best_.data() + r * runs_, static_cast<std::size_t>(runs_)};
  }

private:
  const float* of_ = nullptr;
  std::int64_t rows_ = 0;
  std::int64_t runs_ = 0;
  std::vector<float> best_;
};

}  // namespace troupe::kernels
