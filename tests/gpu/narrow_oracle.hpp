// What bytes of a narrow KV tile mean, and how heads are turned, in double: written apart from the kernels. Used by
// attention_world.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <vector>

#include "kernels/cuda/kv_layout.hpp"

namespace troupe::kernels::cuda {

inline double narrow_number(kv_format format, std::byte byte) {
  const int b = std::to_integer<int>(byte);
  if (format == kv_format::q8_0) return b - 128;
  const int exponent = b >> 3 & 15, fraction = b & 7;
  if (exponent == 15 && fraction == 7) return std::nan("");
  const double size = exponent ? std::ldexp(8 + fraction, exponent - 10) : std::ldexp(fraction, -9);
  return b & 128 ? -size : size;
}

/// Orthonormal: element n of the order in which threads hold a head meets m with the sign of the parity of n & m.
inline std::vector<double> turned_head(const std::vector<double>& head, bool interleaved, int rotated) {
  const int dims = static_cast<int>(head.size());
  std::vector<int> place;  // of element n
  for (int unit = 0; unit < dims / 16; ++unit) {
    const bool across = !interleaved && unit < rotated / 16;
    const int low = across ? unit : 2 * unit, high = across ? unit + rotated / 16 : 2 * unit + 1;
    for (int chunk : {low, high})
      for (int i = 0; i < 8; ++i) place.push_back(chunk * 8 + i);
  }
  std::vector<double> out(head.size());
  for (int n = 0; n < dims; ++n) {
    double sum = 0;
    for (int m = 0; m < dims; ++m) {
      const double x = head[static_cast<std::size_t>(place[static_cast<std::size_t>(m)])];
      sum += std::popcount(static_cast<unsigned>(n & m)) % 2 ? -x : x;
    }
    out[static_cast<std::size_t>(place[static_cast<std::size_t>(n)])] = sum / std::sqrt(dims);
  }
  return out;
}

}  // namespace troupe::kernels::cuda
