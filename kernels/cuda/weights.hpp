// Weight matrices on the device: which types, in which layout, and how they get there. Knows no model and no product.
//
// k_padded = cols up to a multiple of 128, n_padded = rows up to a multiple of 64; what pads is zero.
//   bf16, f16   row-major [n_padded][k_padded]
//   fp8         e4m3, row-major [n_padded][k_padded], column e of every 64 at fp8_place(e); scales: f32 [n_padded],
//               weight = scale * value
//   q8_0        bytes (value + 128) in fragment order; scales: f16, below; weight = d * value
//   q8_16       the same with a scale for every 16 columns
//   q8_1        bytes (0 to 127) in fragment order; weight = d * byte + m
//   q4_0, q4_1  nibbles in fragment order; weight = d * nibble, signed, or d * nibble + m
// Fragment order: units of 8 rows x 128 columns; unit (r8, k128) is number (r8 / 8 * (k_padded / 128) + k128) * 8 + r8
// % 8. A unit of nibbles is 32 lanes x 16 bytes, of bytes 2 x 32 lanes x 16 bytes (the first 64 columns, then the
// others): what a lane of an m16n8k16 product wants of the A operand, in one load. Lane 4g+t holds of row g, of every
// block of 32 columns, columns 16h + 8j + 2t + i: bytes at bits 16i + 8j of word h, or nibbles at bits 16i + 8j + 4h of
// one word, so that pairs (i = 0, 1) come out by masks alone. Scales of a unit: [8 rows][4 blocks] of d, of (d, m), or
// of the d of either half.
//
// What a file's type becomes: BF16, F32 bf16; F16 f16; Q4_0, Q4_1, Q8_0 themselves; Q4_K q4_1; Q5_1 and Q5_K q8_1; Q6_K
// q8_16; Q5_0, Q3_K, IQ4_NL, IQ4_XS and MXFP4 q8_0. Integers stay what they are; a block's scale of a K type, and its
// offset, round to f16 once (1 in 4,096). Q2_K alone is quantised anew, to 8 bits a block: a step of 1 in 254 of the
// block's range, against its own of 1 in 3. MXFP4's scales end where f16's do.
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
    constexpr int
    fp8_place(int e) {
  return (e & ~63) + (e >> 1 & 3) * 16 + (e >> 4 & 3) * 4 + (e >> 3 & 1) * 2 + (e & 1);
}

enum class weight_type : std::uint8_t { bf16, f16, fp8, q8_0, q4_0, q4_1, q8_16, q8_1 };

struct device_matrix : packed_matrix {
  weight_type type = weight_type::bf16;
  std::int64_t n_padded = 0;
  std::int64_t k_padded = 0;
  device_buffer data;
  device_buffer scales;
};

/// A matrix of that shape without memory. Sets rows, cols, bytes.
std::unique_ptr<device_matrix> shape_matrix(weight_type type, std::int64_t rows, std::int64_t cols);
/// How many bytes place_matrix takes of a buffer, a multiple of 256.
std::int64_t room_of(const device_matrix& m);
/// Gives it its memory, a part of `room` from `at` on, a multiple of 256; contents undefined.
void place_matrix(device_matrix& m, const device_buffer& room, std::int64_t at);
/// The three together.
result<std::unique_ptr<device_matrix>> make_matrix(weight_type type, std::int64_t rows, std::int64_t cols);

result<void> clear_matrix(device_matrix& m, cudaStream_t on);

/// The form that keeps a file's values best.
weight_type natural_type(memory::dtype file);
/// Can it take that form? Its natural one, and bf16, f16 and fp8 always.
bool packs_as(memory::dtype file, weight_type type);

/// Stacks parts (equal cols) into one matrix of `type`. Any part may become bf16, f16 or fp8 (scale of a row = largest
/// magnitude / 448). Parts may be host memory. Synchronises the stream. unsupported: a part cannot be of this type.
result<std::unique_ptr<device_matrix>> pack_matrix(std::span<const tensor_view> parts, weight_type type,
                                                   cudaStream_t on);

/// Seeded random weights of about unit variance / sqrt(cols), made on the device: for measurements.
result<std::unique_ptr<device_matrix>> random_matrix(weight_type type, std::int64_t rows, std::int64_t cols,
                                                     std::uint64_t seed, cudaStream_t on);

}  // namespace troupe::kernels::cuda
