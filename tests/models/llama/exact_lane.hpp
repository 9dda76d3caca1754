// A lane that unpacks all weights to f32 before its inner lane packs them, so that nothing is quantised in between:
// what remains of a difference to an fp32 reference is the order of sums, and KV held in f16.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "kernels/cpu/cpu_lane.hpp"
#include "tests/support/dequantise.hpp"
#include "tests/support/forwarding_lane.hpp"

namespace troupe::test {

class exact_lane final : public forwarding_lane {
public:
  explicit exact_lane(std::unique_ptr<kernels::cpu_lane> inner) : forwarding_lane(*inner), inner_(std::move(inner)) {}

  result<kernels::matrix> pack(std::span<const memory::tensor_view> parts) override {
    std::vector<std::vector<float>> floats;
    std::vector<memory::tensor_view> views;
    for (const auto& part : parts) {
      floats.push_back(dequantise(part));
      views.push_back({floats.back().data(), memory::dtype::f32, part.rows, part.cols, part.cols * 4});
    }
    return inner_->pack(views);
  }

private:
  std::unique_ptr<kernels::cpu_lane> inner_;
};

}  // namespace troupe::test
