// A CUDA lane for tests that carry the label `gpu`, or none where there is no device: then the test says so and passes
// as skipped (ctest looks for the words).
#pragma once

#include <iostream>
#include <memory>
#include <string>

#include "kernels/cuda/cuda_lane.hpp"
#include "support/catch.hpp"

namespace troupe::test {

/// `weights` and `kv` as make_cuda_lane takes them. Null: no device here, said on stdout. Anything else that is wrong fails the test.
inline std::unique_ptr<kernels::cuda::cuda_lane> cuda_lane_or_skip(const std::string& weights = {}, const std::string& kv = {}) {
  auto made = kernels::cuda::make_cuda_lane(weights, kv);
  if (made) return *std::move(made);
  INFO(made.why().text);
  REQUIRE((made.why().code == errc::not_found || made.why().code == errc::unsupported));
  std::cout << "skipped, no CUDA device: " << made.why().text << std::endl;
  return nullptr;
}

}  // namespace troupe::test
