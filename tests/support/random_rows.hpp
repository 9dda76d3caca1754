// Rows of random weights of every type, as a file holds them. Knows where blocks have their scales, nothing of what a
// kernel does with them.
#pragma once

#include <cstdint>
#include <string>

#include "memory/tensor_view.hpp"

namespace troupe::test {

/// SplitMix64 (Steele et al. 2014): the same on every machine, unlike the standard distributions.
class random_numbers {
public:
  explicit random_numbers(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  /// Uniform with mean 0 and deviation 1.
  float unit() { return (static_cast<float>(next() >> 40) / static_cast<float>(1 << 24) - 0.5f) * 3.4641016f; }

private:
  std::uint64_t state_;
};

/// Every bit pattern of the quants and small scales; values of about `deviation` around zero.
std::string random_rows(memory::dtype type, std::int64_t rows, std::int64_t cols, float deviation, std::uint64_t seed);

/// Makes a scale of a quantised block NaN or infinite: the `which`-th of those it has. False: it has fewer.
bool spoil_scale(memory::dtype type, char* block, int which, bool nan);

}  // namespace troupe::test
