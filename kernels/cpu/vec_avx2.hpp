// The operations that vector_kernels.hpp asks for, in AVX2, FMA and F16C: 8 rows to a register, half a tile. Included
// by one source file for each instruction set of the family, which says whether it has the VNNI dot product
// (TROUPE_AVX_VNNI). Knows no kernel.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/kernel_set.hpp"

namespace troupe::kernels {
namespace {

struct vec {
#if defined(TROUPE_AVX_VNNI)
  static constexpr isa which = isa::avx_vnni;
#else
  static constexpr isa which = isa::avx2;
#endif
  static constexpr int rows = 8;
  static constexpr int units_at_once = 1;
  static constexpr int tokens_at_once = 4;  // 16 registers: 4 integer and 4 float sums, weights, masks
  static constexpr int vectors_at_once = 4;

  // 16 floats
  struct f32x16 {
    __m256 low, high;
  };
  static f32x16 set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  static f32x16 load(const float* x) { return {_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8)}; }
  static void store(float* out, f32x16 x) {
    _mm256_storeu_ps(out, x.low);
    _mm256_storeu_ps(out + 8, x.high);
  }
  static f32x16 add(f32x16 a, f32x16 b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
  static f32x16 sub(f32x16 a, f32x16 b) { return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)}; }
  static f32x16 mul(f32x16 a, f32x16 b) { return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)}; }
  static f32x16 div(f32x16 a, f32x16 b) { return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)}; }
  static f32x16 fma(f32x16 a, f32x16 b, f32x16 c) {
    return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
  }
  // The second operand comes through where one is NaN.
  static f32x16 max(f32x16 a, f32x16 b) { return {_mm256_max_ps(b.low, a.low), _mm256_max_ps(b.high, a.high)}; }
  static f32x16 min(f32x16 a, f32x16 b) { return {_mm256_min_ps(b.low, a.low), _mm256_min_ps(b.high, a.high)}; }
  static f32x16 round(f32x16 x) {
    constexpr int nearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    return {_mm256_round_ps(x.low, nearest), _mm256_round_ps(x.high, nearest)};
  }
  static __m256 exp2i(__m256 n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
  }
  static f32x16 exp2i(f32x16 n) { return {exp2i(n.low), exp2i(n.high)}; }
  static __m256 zero_where_below(__m256 x, float limit, __m256 y) {
    return _mm256_and_ps(_mm256_cmp_ps(x, _mm256_set1_ps(limit), _CMP_NLT_UQ), y);
  }
  static f32x16 zero_where_below(f32x16 x, float limit, f32x16 y) {
    return {zero_where_below(x.low, limit, y.low), zero_where_below(x.high, limit, y.high)};
  }
  static float first(f32x16 x) { return _mm256_cvtss_f32(x.low); }
  static float sum(f32x16 x) {
    const __m256 eight = _mm256_add_ps(x.low, x.high);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_shuffle_ps(four, four, 1)));
  }
  static float max_of(__m256 eight) {
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_shuffle_ps(four, four, 1)));
  }
  static float max_of(f32x16 x) {
    const __m256 nan = _mm256_cmp_ps(x.low, x.high, _CMP_UNORD_Q);
    return _mm256_movemask_ps(nan) != 0 ? __builtin_nanf("") : max_of(_mm256_max_ps(x.low, x.high));
  }
  /// -inf from lane n on.
  static f32x16 first_lanes(f32x16 x, std::int32_t n) {
    const __m256i count = _mm256_set1_epi32(n);
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256 low = _mm256_castsi256_ps(_mm256_cmpgt_epi32(count, lanes));
    const __m256 high = _mm256_castsi256_ps(_mm256_cmpgt_epi32(count, _mm256_add_epi32(lanes, _mm256_set1_epi32(8))));
    const __m256 none = _mm256_set1_ps(-__builtin_inff());
    return {_mm256_blendv_ps(none, x.low, low), _mm256_blendv_ps(none, x.high, high)};
  }
  static __m256 load_eight_f16(const void* from) {
    return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(from)));
  }
  static f32x16 load_f16(const std::uint16_t* from) { return {load_eight_f16(from), load_eight_f16(from + 8)}; }
  static void store_f16(std::uint16_t* out, f32x16 x) {
    constexpr int nearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm256_cvtps_ph(x.low, nearest));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 8), _mm256_cvtps_ph(x.high, nearest));
  }

  // The rows of a unit
  using row_floats = __m256;
  using row_ints = __m256i;
  static row_floats zero_rows() { return _mm256_setzero_ps(); }
  static row_floats set_rows(float x) { return _mm256_set1_ps(x); }
  static row_floats load_rows(const float* x) { return _mm256_loadu_ps(x); }
  static void store_rows(float* out, row_floats x) { _mm256_storeu_ps(out, x); }
  static row_floats add_rows(row_floats a, row_floats b) { return _mm256_add_ps(a, b); }
  static row_floats mul_rows(row_floats a, row_floats b) { return _mm256_mul_ps(a, b); }
  static row_floats fma_rows(row_floats a, row_floats b, row_floats c) { return _mm256_fmadd_ps(a, b, c); }
  static row_ints set_ints(std::int32_t x) { return _mm256_set1_epi32(x); }
  static row_floats to_floats(row_ints x) { return _mm256_cvtepi32_ps(x); }
  static row_floats load_half(const std::byte* from) { return load_eight_f16(from); }
  static constexpr bool has_bf16_dots = false;
  /// The k-th of the columns whose numbers alternate at `from`: pairs of BF16, else one column.
  template <memory::dtype Type>
  static row_floats load_weights(const std::byte* from, int k) {
    if constexpr (Type == memory::dtype::f16) {
      return load_eight_f16(from);
    } else if constexpr (Type == memory::dtype::bf16) {
      const __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
      return _mm256_castsi256_ps(k == 0 ? _mm256_slli_epi32(pairs, 16)
                                        : _mm256_and_si256(pairs, _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
    } else {
      return _mm256_loadu_ps(reinterpret_cast<const float*>(from));
    }
  }

  static __m256i four_columns(const std::int8_t* quants) {
    std::int32_t word;
    __builtin_memcpy(&word, quants, 4);
    return _mm256_set1_epi32(word);
  }
  static __m256i half_of_tile(const std::byte* data, std::int64_t unit, int v) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(data + v * 64 + unit % 2 * 32));
  }

  /// dots[0][token] += u . q over one block of 32 columns; tokens are 32 quants apart.
  template <class Tile, int Units, int Tokens>
  static void block_dots(const std::byte* const (&data)[Units], std::int64_t unit, const std::int8_t* quants,
                         row_ints (&dots)[Units][Tokens]) {
    static_assert(Units == 1);
    if constexpr (Tile::nibbles)
      nibble_dots<Tokens>(data[0], unit, quants, dots[0]);
    else
      byte_dots<Tokens>(data[0], unit, quants, dots[0]);
  }

#if defined(TROUPE_AVX_VNNI)
  template <int Tokens>
  static void nibble_dots(const std::byte* data, std::int64_t unit, const std::int8_t* quants,
                          row_ints (&dots)[Tokens]) {
    const __m256i low_nibbles = _mm256_set1_epi8(15);
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      const __m256i bytes = half_of_tile(data, unit, v);
      const __m256i low = _mm256_and_si256(bytes, low_nibbles);
      const __m256i high = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), low_nibbles);
#pragma GCC unroll 4
      for (int t = 0; t < Tokens; ++t) {
        const std::int8_t* a = quants + t * 32 + v * 4;
        dots[t] = _mm256_dpbusd_avx_epi32(dots[t], low, four_columns(a));
        dots[t] = _mm256_dpbusd_avx_epi32(dots[t], high, four_columns(a + 16));
      }
    }
  }
  template <int Tokens>
  static void byte_dots(const std::byte* data, std::int64_t unit, const std::int8_t* quants,
                        row_ints (&dots)[Tokens]) {
#pragma GCC unroll 8
    for (int v = 0; v < 8; ++v) {
      const __m256i bytes = half_of_tile(data, unit, v);
#pragma GCC unroll 4
      for (int t = 0; t < Tokens; ++t)
        dots[t] = _mm256_dpbusd_avx_epi32(dots[t], bytes, four_columns(quants + t * 32 + v * 4));
    }
  }
#else
  // A 16-bit sum of all eight steps is at most 8 * 2 * 15 * 127 = 30480: it cannot overflow.
  template <int Tokens>
  static void nibble_dots(const std::byte* data, std::int64_t unit, const std::int8_t* quants,
                          row_ints (&dots)[Tokens]) {
    const __m256i low_nibbles = _mm256_set1_epi8(15);
    __m256i sums[Tokens];
#pragma GCC unroll 4
    for (int t = 0; t < Tokens; ++t) sums[t] = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      const __m256i bytes = half_of_tile(data, unit, v);
      const __m256i low = _mm256_and_si256(bytes, low_nibbles);
      const __m256i high = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), low_nibbles);
#pragma GCC unroll 4
      for (int t = 0; t < Tokens; ++t) {
        const std::int8_t* a = quants + t * 32 + v * 4;
        sums[t] = _mm256_add_epi16(sums[t], _mm256_maddubs_epi16(low, four_columns(a)));
        sums[t] = _mm256_add_epi16(sums[t], _mm256_maddubs_epi16(high, four_columns(a + 16)));
      }
    }
#pragma GCC unroll 4
    for (int t = 0; t < Tokens; ++t)
      dots[t] = _mm256_add_epi32(dots[t], _mm256_madd_epi16(sums[t], _mm256_set1_epi16(1)));
  }
  // maddubs saturates at 32767, and a pair of u * q reaches 64770. So q is multiplied with |u - 128| after taking its
  // sign: a pair is at most 2 * 128 * 127 = 32512. The offset is gone, and with it the start value.
  template <int Tokens>
  static void byte_dots(const std::byte* data, std::int64_t unit, const std::int8_t* quants,
                        row_ints (&dots)[Tokens]) {
    const __m256i top = _mm256_set1_epi8(-128);
#pragma GCC unroll 4
    for (int t = 0; t < Tokens; ++t) dots[t] = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int v = 0; v < 8; ++v) {
      const __m256i weights = _mm256_xor_si256(half_of_tile(data, unit, v), top);
      const __m256i sizes = _mm256_abs_epi8(weights);
#pragma GCC unroll 4
      for (int t = 0; t < Tokens; ++t) {
        const __m256i a = _mm256_sign_epi8(four_columns(quants + t * 32 + v * 4), weights);
        dots[t] = _mm256_add_epi32(dots[t], _mm256_madd_epi16(_mm256_maddubs_epi16(sizes, a), _mm256_set1_epi16(1)));
      }
    }
  }
#endif

  static __m256i quantise_eight(const float* x, float factor) {
    return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), _mm256_set1_ps(factor)));
  }

  /// As the scalar kernel's, bit for bit.
  static void quantise_block(const float* x, std::int8_t* quants, activation_block& out) {
    const __m256 no_sign = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    __m256 largest_eight = _mm256_setzero_ps();
    __m256 poison = _mm256_setzero_ps();
#pragma GCC unroll 4
    for (int i = 0; i < 32; i += 8) {
      const __m256 v = _mm256_loadu_ps(x + i);
      largest_eight = _mm256_max_ps(largest_eight, _mm256_and_ps(v, no_sign));
      poison = _mm256_add_ps(poison, _mm256_sub_ps(v, v));  // NaN where a number is not finite
    }
    const bool finite = _mm256_movemask_ps(_mm256_cmp_ps(poison, poison, _CMP_UNORD_Q)) == 0;
    const float largest = max_of(largest_eight);
    float inverse = finite && largest > 0.0f ? 127.0f / largest : 0.0f;
    if (!(inverse <= 3.4028235e38f)) inverse = 0.0f;
    __m256i ints[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) ints[i] = finite ? quantise_eight(x + 8 * i, inverse) : _mm256_setzero_si256();
    // Packing works within 128-bit halves; the permutation puts the 4-byte groups back in order.
    const __m256i bytes =
        _mm256_packs_epi16(_mm256_packs_epi32(ints[0], ints[1]), _mm256_packs_epi32(ints[2], ints[3]));
    const __m256i ordered = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(quants), ordered);
    std::int32_t sum = 0;
    for (int i = 0; i < 32; ++i) sum += quants[i];
    const float scale = finite ? largest / 127.0f : __builtin_nanf("");
    out = {scale, scale * static_cast<float>(sum), -8 * sum, -128 * sum};
  }
};

}  // namespace
}  // namespace troupe::kernels
