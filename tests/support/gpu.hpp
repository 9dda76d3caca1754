// A CUDA lane for tests that carry the label `gpu`, or none where there is no device: then the test says so and passes
// as skipped (ctest looks for the words).
#pragma once

#include <iostream>
#include <memory>
#include <string>

#include "kernels/cuda/cuda_lane.hpp"
#include "support/catch.hpp"

namespace troupe::test {

/// Null: no device here, said on stdout. Anything else that is wrong fails the test.
inline std::unique_ptr<kernels::cuda::cuda_lane> cuda_lane_or_skip(const kernels::cuda::cuda_wish& wish = {}) {
  auto made = kernels::cuda::make_cuda_lane(wish);
  if (made) return *std::move(made);
  INFO(made.why().text);
  REQUIRE((made.why().code == errc::not_found || made.why().code == errc::unsupported));
  std::cout << "skipped, no CUDA device: " << made.why().text << std::endl;
  return nullptr;
}

}  // namespace troupe::test
