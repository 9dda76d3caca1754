// Random tensors of every type for the kernel tests, and their plain values. Knows no lane.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "memory/tensor_view.hpp"
#include "tests/support/dequantise.hpp"
#include "tests/support/random_rows.hpp"

namespace troupe::kernels::testing {

using memory::dtype;
using memory::tensor_view;

struct random_source {
  std::mt19937 bits;
  explicit random_source(unsigned seed) : bits(seed) {}
  float normal() { return std::normal_distribution<float>(0.0f, 1.0f)(bits); }
  std::int64_t below(std::int64_t n) { return std::uniform_int_distribution<std::int64_t>(0, n - 1)(bits); }
};

/// A dense f32 matrix that owns its numbers.
struct dense {
  std::int64_t rows, cols;
  std::vector<float> values;
  dense(std::int64_t r, std::int64_t c) : rows(r), cols(c), values(static_cast<std::size_t>(r * c), 0.0f) {}
  dense(std::int64_t r, std::int64_t c, random_source& random) : dense(r, c) {
    for (float& v : values) v = random.normal();
  }
  tensor_view view() { return {values.data(), dtype::f32, rows, cols, cols * 4}; }
  float at(std::int64_t r, std::int64_t c) const { return values[static_cast<std::size_t>(r * cols + c)]; }
};

/// A weight matrix as a file would hold it, and what it means.
struct stored {
  std::string bytes;
  dense meaning;
  dtype type;
  stored(dtype t, std::int64_t rows, std::int64_t cols, random_source& random)
      : bytes(test::random_rows(t, rows, cols, 1.0f, random.bits())), meaning(rows, cols), type(t) {
    meaning.values = test::dequantise(view());
  }
  tensor_view view() { return {bytes.data(), type, meaning.rows, meaning.cols, memory::row_size(type, meaning.cols)}; }
};

/// The largest difference, relative to the root mean square of what is expected.
inline double distance(const std::vector<float>& found, const std::vector<double>& expected) {
  double squares = 0, worst = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    squares += expected[i] * expected[i];
    const double off = std::fabs(static_cast<double>(found[i]) - expected[i]);
    worst = off <= worst ? worst : off;  // a NaN stays
  }
  return worst / std::sqrt(squares / static_cast<double>(expected.size()) + 1e-30);
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * 4) == 0;
}

}  // namespace troupe::kernels::testing
