// Random tensors of every type for the kernel tests, and their plain values. Knows no lane.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/cpu/half.hpp"
#include "memory/tensor_view.hpp"

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
  std::vector<std::uint8_t> bytes;
  dense meaning;
  dtype type;
  stored(dtype t, std::int64_t rows, std::int64_t cols, random_source& random) : meaning(rows, cols), type(t) {
    const std::int64_t block = memory::info(t).block;
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t c = 0; c < cols; c += block)
        add_block(&meaning.values[static_cast<std::size_t>(r * cols + c)], random);
  }
  tensor_view view() { return {bytes.data(), type, meaning.rows, meaning.cols, memory::row_size(type, meaning.cols)}; }

private:
  void put(const void* from, std::size_t count) {
    const auto* b = static_cast<const std::uint8_t*>(from);
    bytes.insert(bytes.end(), b, b + count);
  }
  float put_half(float value) {
    const std::uint16_t half = f32_to_f16(value);
    put(&half, 2);
    return f16_to_f32(half);
  }
  // The layouts again, written from the specification and not from the code under test.
  void add_block(float* out, random_source& random) {
    if (type == dtype::f32) {
      out[0] = random.normal();
      put(out, 4);
    } else if (type == dtype::f16) {
      out[0] = put_half(random.normal());
    } else if (type == dtype::bf16) {
      const float value = random.normal();
      std::uint32_t bits;
      std::memcpy(&bits, &value, 4);
      const auto top = static_cast<std::uint16_t>(bits >> 16);
      put(&top, 2);
      out[0] = bf16_to_f32(top);
    } else if (type == dtype::q8_0) {
      const float d = put_half(0.01f * random.normal());
      for (int i = 0; i < 32; ++i) {
        const auto q = static_cast<std::int8_t>(random.below(256) - 128);
        put(&q, 1);
        out[i] = d * q;
      }
    } else {
      const float d = put_half(0.1f * random.normal());
      const float m = type == dtype::q4_1 ? put_half(0.5f * random.normal()) : -8.0f * d;
      for (int i = 0; i < 16; ++i) {
        const auto both = static_cast<std::uint8_t>(random.below(256));
        put(&both, 1);
        out[i] = d * static_cast<float>(both & 15) + m;
        out[i + 16] = d * static_cast<float>(both >> 4) + m;
      }
    }
  }
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
