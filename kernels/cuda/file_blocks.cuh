// Blocks of weights as a GGUF file has them, read on the device: of 32 elements the integers, their scales and their
// offset, and single elements. Plain, byte by byte: for loading and for embeddings. Knows no layout of the device's
// own. Source: ggml's block layouts, as the GGUF specification names them; MXFP4: OCP Microscaling Formats v1.0.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.hpp"
#include "memory/tensor_view.hpp"

namespace troupe::kernels::cuda {

__device__ inline float half_in_file(const std::uint8_t* at) {
  __half_raw raw;
  raw.x = static_cast<unsigned short>(at[0] | at[1] << 8);
  return __half2float(__half(raw));
}

/// Block `part` (of 32 elements) of the file's block at `at`: element e is d(e / 16) * quant(e) + offset(e / 16).
template <memory::dtype Type>
struct file_block {
  using dtype = memory::dtype;
  static constexpr bool six_bit_scales = Type == dtype::q4_k || Type == dtype::q5_k;
  static constexpr bool codebook = Type == dtype::iq4_nl || Type == dtype::iq4_xs;

  const std::uint8_t* at;
  int part;

  __device__ int quant(int e) const {
    const int nibble_at = Type == dtype::q4_0 || codebook ? (Type == dtype::iq4_xs ? 8 + part * 16 : 2)
                          : Type == dtype::q4_1           ? 4
                          : Type == dtype::q5_0           ? 6
                          : Type == dtype::q5_1           ? 8
                                                          : 1;
    if constexpr (Type == dtype::q4_0) return nibble(nibble_at, e) - 8;
    if constexpr (Type == dtype::q4_1) return nibble(nibble_at, e);
    if constexpr (Type == dtype::q5_0) return nibble(nibble_at, e) + bit(2 + e / 8, e % 8) * 16 - 16;
    if constexpr (Type == dtype::q5_1) return nibble(nibble_at, e) + bit(4 + e / 8, e % 8) * 16;
    if constexpr (Type == dtype::q8_0) return static_cast<signed char>(at[2 + e]);
    if constexpr (codebook) {
      constexpr std::uint32_t values[] = {0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u};
      const int q = nibble(nibble_at, e);
      const std::uint32_t four = q < 4 ? values[0] : q < 8 ? values[1] : q < 12 ? values[2] : values[3];
      return static_cast<signed char>(four >> q % 4 * 8);
    }
    if constexpr (Type == dtype::mxfp4) {  // doubled: 0, 1, 2, 3, 4, 6, 8, 12
      const int q = nibble(nibble_at, e), size = static_cast<int>(0xc8643210u >> (q & 7) * 4 & 15);
      return q & 8 ? -size : size;
    }
    if constexpr (Type == dtype::q2_k) return pair(16, e);
    if constexpr (Type == dtype::q3_k) return pair(32, e) + bit(e, part) * 4 - 4;
    if constexpr (Type == dtype::q4_k) return at[16 + part / 2 * 32 + e] >> part % 2 * 4 & 15;
    if constexpr (Type == dtype::q5_k)
      return (at[48 + part / 2 * 32 + e] >> part % 2 * 4 & 15) + bit(16 + e, part) * 16;
    if constexpr (Type == dtype::q6_k)
      return (at[part / 4 * 64 + part % 2 * 32 + e] >> part % 4 / 2 * 4 & 15) + pair(128, e) * 16 - 32;
    return 0;
  }

  /// The integer that d of a 256-block is multiplied by, for 16 elements.
  __device__ int small_scale(int half) const {
    const int p = part * 2 + half;
    if constexpr (Type == dtype::q2_k) return at[p] & 15;
    if constexpr (Type == dtype::q3_k)
      return (at[96 + p % 8] >> p / 8 * 4 & 15) + (at[104 + p % 4] >> p / 4 * 2 & 3) * 16 - 32;
    if constexpr (Type == dtype::q6_k) return static_cast<signed char>(at[192 + p]);
    if constexpr (Type == dtype::iq4_xs)
      return (at[4 + part / 2] >> part % 2 * 4 & 15) + (at[2 + part / 4] >> part % 4 * 2 & 3) * 16 - 32;
    if constexpr (six_bit_scales) return part < 4 ? at[4 + part] & 63 : (at[8 + part] & 15) | at[part] >> 6 << 4;
    return 1;
  }

  __device__ float unit() const {
    if constexpr (Type == dtype::mxfp4) return exp2f(static_cast<float>(at[0]) - 128.0f);
    constexpr int where = Type == dtype::q2_k ? 80 : Type == dtype::q3_k ? 108 : Type == dtype::q6_k ? 208 : 0;
    return half_in_file(at + where);
  }
  __device__ float d(int half) const { return unit() * static_cast<float>(small_scale(half)); }

  __device__ float offset(int half) const {
    if constexpr (Type == dtype::q4_1 || Type == dtype::q5_1) return half_in_file(at + 2);
    if constexpr (Type == dtype::q2_k) return -half_in_file(at + 82) * static_cast<float>(at[part * 2 + half] >> 4);
    if constexpr (six_bit_scales) {
      const int least = part < 4 ? at[8 + part] & 63 : at[8 + part] >> 4 | at[4 + part] >> 6 << 4;
      return -half_in_file(at + 2) * static_cast<float>(least);
    }
    return 0.0f;
  }

  __device__ float value(int e) const { return fmaf(d(e / 16), static_cast<float>(quant(e)), offset(e / 16)); }

private:
  /// 16 bytes: elements 0 to 15 are the low halves, the others the high ones.
  __device__ int nibble(int from, int e) const { return at[from + e % 16] >> e / 16 * 4 & 15; }
  __device__ int bit(int byte, int b) const { return at[byte] >> b & 1; }
  /// 64 bytes of 4 pairs of bits: 32 bytes for 128 elements.
  __device__ int pair(int from, int e) const { return at[from + part / 4 * 32 + e] >> part % 4 * 2 & 3; }
};

template <memory::dtype Type>
inline constexpr memory::dtype_info file_layout = memory::info(Type);

/// Block `block` (of 32 elements) of a row of the file.
template <memory::dtype Type>
__device__ file_block<Type> block_in_row(const std::uint8_t* row, std::int64_t block) {
  constexpr int parts = file_layout<Type>.block / 32, bytes = file_layout<Type>.block_bytes;
  return {row + block / parts * bytes, static_cast<int>(block % parts)};
}

/// One element of a row of any type that a file's matrix may have.
__device__ inline float element_of(const std::uint8_t* row, memory::dtype type, std::int64_t col) {
  using memory::dtype;
  const std::int64_t block = col / 32;
  const int e = static_cast<int>(col % 32);
  switch (type) {
    case dtype::f32: return reinterpret_cast<const float*>(row)[col];
    case dtype::f16: return half_in_file(row + 2 * col);
    case dtype::bf16: return __bfloat162float(reinterpret_cast<const bf16*>(row)[col]);
    case dtype::q4_0: return block_in_row<dtype::q4_0>(row, block).value(e);
    case dtype::q4_1: return block_in_row<dtype::q4_1>(row, block).value(e);
    case dtype::q5_0: return block_in_row<dtype::q5_0>(row, block).value(e);
    case dtype::q5_1: return block_in_row<dtype::q5_1>(row, block).value(e);
    case dtype::q8_0: return block_in_row<dtype::q8_0>(row, block).value(e);
    case dtype::q2_k: return block_in_row<dtype::q2_k>(row, block).value(e);
    case dtype::q3_k: return block_in_row<dtype::q3_k>(row, block).value(e);
    case dtype::q4_k: return block_in_row<dtype::q4_k>(row, block).value(e);
    case dtype::q5_k: return block_in_row<dtype::q5_k>(row, block).value(e);
    case dtype::q6_k: return block_in_row<dtype::q6_k>(row, block).value(e);
    case dtype::iq4_nl: return block_in_row<dtype::iq4_nl>(row, block).value(e);
    case dtype::iq4_xs: return block_in_row<dtype::iq4_xs>(row, block).value(e);
    case dtype::mxfp4: return block_in_row<dtype::mxfp4>(row, block).value(e);
    default: return 0.0f;
  }
}

}  // namespace troupe::kernels::cuda
