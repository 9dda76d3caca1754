// Weight matrices on the device: which types, in which layout, and how they get there. Knows no model and no product.
//
// k_padded = cols up to a multiple of 128, n_padded = rows up to a multiple of 64; what pads is zero.
//   bf16, f16   row-major [n_padded][k_padded]
//   fp8         e4m3, row-major [n_padded][k_padded], column e of every 64 at fp8_place(e); scales: f32 [n_padded],
//               weight = scale * value
//   q8_0        bytes (value + 128) in fragment order; scales: f16, below; weight = d * value
//   q4_0, q4_1  nibbles in fragment order; weight = d * nibble, signed, or d * nibble + m
// Fragment order: units of 8 rows x 128 columns; unit (r8, k128) is number (r8 / 8 * (k_padded / 128) + k128) * 8 + r8 % 8.
// A unit of nibbles is 32 lanes x 16 bytes, of bytes 2 x 32 lanes x 16 bytes (the first 64 columns, then the others):
// what a lane of an m16n8k16 product wants of the A operand, in one load. Lane 4g+t holds of row g, of every block of
// 32 columns, columns 16h + 8j + 2t + i: bytes at bits 16i + 8j of word h, or nibbles at bits 16i + 8j + 4h of one
// word, so that pairs (i = 0, 1) come out by masks alone.
// Scales of a unit: [8 rows][4 blocks] of d, or of (d, m) pairs.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "kernels/cuda/device.hpp"
#include "kernels/lane.hpp"

namespace troupe::kernels::cuda {

/// Where column e of fp8 weights (and of the fp8 x that meets them) lies: fragment order within 64 columns.
#ifdef __CUDACC__
__host__ __device__
#endif
constexpr int fp8_place(int e) { return (e & ~63) + (e >> 1 & 3) * 16 + (e >> 4 & 3) * 4 + (e >> 3 & 1) * 2 + (e & 1); }

enum class weight_type : std::uint8_t { bf16, f16, fp8, q8_0, q4_0, q4_1 };

struct device_matrix : packed_matrix {
  weight_type type = weight_type::bf16;
  std::int64_t n_padded = 0;
  std::int64_t k_padded = 0;
  device_buffer data;
  device_buffer scales;
};

/// An empty matrix of that shape, contents undefined. Sets rows, cols, bytes.
result<std::unique_ptr<device_matrix>> make_matrix(weight_type type, std::int64_t rows, std::int64_t cols);

/// Stacks parts (equal cols) into one matrix of `type`. Parts of floats may become bf16, f16 or fp8 (scale of a row =
/// largest magnitude / 448); block types keep their values. Parts may be host memory. Synchronises the stream.
result<std::unique_ptr<device_matrix>> pack_matrix(std::span<const tensor_view> parts, weight_type type,
                                                   cudaStream_t on);

/// Seeded random weights of about unit variance / sqrt(cols), made on the device: for measurements.
result<std::unique_ptr<device_matrix>> random_matrix(weight_type type, std::int64_t rows, std::int64_t cols,
                                                     std::uint64_t seed, cudaStream_t on);

}  // namespace troupe::kernels::cuda
