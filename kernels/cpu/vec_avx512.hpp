// The operations that vector_kernels.hpp asks for, in AVX-512 with VNNI: 16 rows to a register. Included by one source
// file for each instruction set of the family, which says whether it has the bf16 dot product (TROUPE_AVX512_BF16).
// Knows no kernel.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/kernel_set.hpp"

namespace troupe::kernels {
namespace {

struct vec {
#if defined(TROUPE_AVX512_BF16)
  static constexpr isa which = isa::avx512bf16;
#else
  static constexpr isa which = isa::avx512vnni;
#endif
  static constexpr int rows = 16;
  static constexpr int units_at_once = 2;
  static constexpr int tokens_at_once = 8;  // six are 12 integer and 12 float sums, 4 weights, 4 to spare; eight spill a few
  static constexpr int vectors_at_once = 12;

  // 16 floats
  using f32x16 = __m512;
  static f32x16 set(float x) { return _mm512_set1_ps(x); }
  static f32x16 load(const float* x) { return _mm512_loadu_ps(x); }
  static void store(float* out, f32x16 x) { _mm512_storeu_ps(out, x); }
  static f32x16 add(f32x16 a, f32x16 b) { return _mm512_add_ps(a, b); }
  static f32x16 sub(f32x16 a, f32x16 b) { return _mm512_sub_ps(a, b); }
  static f32x16 mul(f32x16 a, f32x16 b) { return _mm512_mul_ps(a, b); }
  static f32x16 div(f32x16 a, f32x16 b) { return _mm512_div_ps(a, b); }
  static f32x16 fma(f32x16 a, f32x16 b, f32x16 c) { return _mm512_fmadd_ps(a, b, c); }
  // The second operand comes through where one is NaN.
  static f32x16 max(f32x16 a, f32x16 b) { return _mm512_max_ps(b, a); }
  static f32x16 min(f32x16 a, f32x16 b) { return _mm512_min_ps(b, a); }
  static f32x16 round(f32x16 x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static f32x16 exp2i(f32x16 n) { return _mm512_scalef_ps(set(1.0f), n); }
  static f32x16 zero_where_below(f32x16 x, float limit, f32x16 y) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, set(limit), _CMP_NLT_UQ), y);
  }
  static float first(f32x16 x) { return _mm512_cvtss_f32(x); }
  static float sum(f32x16 x) { return _mm512_reduce_add_ps(x); }
  static float max_of(f32x16 x) {
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    return nan != 0 ? __builtin_nanf("") : _mm512_reduce_max_ps(x);
  }
  /// -inf from lane n on.
  static f32x16 first_lanes(f32x16 x, std::int32_t n) {
    const std::uint32_t kept = n >= 16 ? 0xffffu : n <= 0 ? 0u : (1u << n) - 1;
    return _mm512_mask_mov_ps(set(-__builtin_inff()), static_cast<__mmask16>(kept), x);
  }
  static f32x16 load_f16(const void* from) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(from)));
  }
  static void store_f16(std::uint16_t* out, f32x16 x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out),
                        _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }

  // The rows of a unit
  using row_floats = __m512;
  using row_ints = __m512i;
  static row_floats zero_rows() { return _mm512_setzero_ps(); }
  static row_floats set_rows(float x) { return set(x); }
  static row_floats load_rows(const float* x) { return load(x); }
  static void store_rows(float* out, row_floats x) { store(out, x); }
  static row_floats add_rows(row_floats a, row_floats b) { return add(a, b); }
  static row_floats mul_rows(row_floats a, row_floats b) { return mul(a, b); }
  static row_floats fma_rows(row_floats a, row_floats b, row_floats c) { return fma(a, b, c); }
  static row_ints set_ints(std::int32_t x) { return _mm512_set1_epi32(x); }
  static row_floats to_floats(row_ints x) { return _mm512_cvtepi32_ps(x); }
  static row_floats load_half(const std::byte* from) { return load_f16(from); }
  /// The k-th of the columns whose numbers alternate at `from`: pairs of BF16, else one column.
  template <memory::dtype Type>
  static row_floats load_weights(const std::byte* from, int k) {
    if constexpr (Type == memory::dtype::f16) return load_f16(from);
    if constexpr (Type == memory::dtype::bf16) {
      const __m512i pairs = _mm512_loadu_si512(from);
      return _mm512_castsi512_ps(k == 0 ? _mm512_slli_epi32(pairs, 16)
                                        : _mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
    }
    return _mm512_loadu_ps(from);
  }
#if defined(TROUPE_AVX512_BF16)
  static constexpr bool has_bf16_dots = true;
  /// sums[row] += w[row][0] * x[0] + w[row][1] * x[1]
  static row_floats bf16_dots(row_floats sums, const std::byte* w, const std::uint16_t* x) {
    std::int32_t pair;
    __builtin_memcpy(&pair, x, 4);
    return _mm512_dpbf16_ps(sums, (__m512bh)_mm512_loadu_si512(w), (__m512bh)_mm512_set1_epi32(pair));
  }
  static void store_bf16(std::uint16_t* out, f32x16 x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), (__m256i)_mm512_cvtneps_pbh(x));
  }
#else
  static constexpr bool has_bf16_dots = false;
#endif

  static __m512i four_columns(const std::int8_t* quants) {
    std::int32_t word;
    __builtin_memcpy(&word, quants, 4);
    return _mm512_set1_epi32(word);
  }

  /// dots[unit][token] += u . q over one block of 32 columns; tokens are 32 quants apart.
  template <class Tile, int Units, int Tokens>
  static void block_dots(const std::byte* const (&data)[Units], std::int64_t, const std::int8_t* quants,
                         row_ints (&dots)[Units][Tokens]) {
    const __m512i low_nibbles = _mm512_set1_epi8(15);
#pragma GCC unroll 8
    for (int v = 0; v < (Tile::nibbles ? 4 : 8); ++v) {
      __m512i low[Units];
      __m512i high[Units];
#pragma GCC unroll 8
      for (int u = 0; u < Units; ++u) {
        const __m512i bytes = _mm512_loadu_si512(data[u] + v * 64);
        low[u] = Tile::nibbles ? _mm512_and_si512(bytes, low_nibbles) : bytes;
        high[u] = Tile::nibbles ? _mm512_and_si512(_mm512_srli_epi16(bytes, 4), low_nibbles) : bytes;
      }
#pragma GCC unroll 16
      for (int t = 0; t < Tokens; ++t) {
        const __m512i a = four_columns(quants + t * 32 + v * 4);
#pragma GCC unroll 8
        for (int u = 0; u < Units; ++u) dots[u][t] = _mm512_dpbusd_epi32(dots[u][t], low[u], a);
        if constexpr (Tile::nibbles) {
          const __m512i b = four_columns(quants + t * 32 + 16 + v * 4);
#pragma GCC unroll 8
          for (int u = 0; u < Units; ++u) dots[u][t] = _mm512_dpbusd_epi32(dots[u][t], high[u], b);
        }
      }
    }
  }

  /// As the scalar kernel's, bit for bit.
  static void quantise_block(const float* x, std::int8_t* quants, activation_block& out) {
    const __m512 a = load(x);
    const __m512 b = load(x + 16);
    const __m512 zero = _mm512_sub_ps(_mm512_sub_ps(a, a), _mm512_sub_ps(b, b));  // NaN where a number is not finite
    const bool finite = _mm512_cmp_ps_mask(zero, zero, _CMP_UNORD_Q) == 0;
    const float largest = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(a), _mm512_abs_ps(b)));
    float inverse = finite && largest > 0.0f ? 127.0f / largest : 0.0f;
    if (!(inverse <= 3.4028235e38f)) inverse = 0.0f;
    const __m512 factor = set(inverse);
    const __m512i low = _mm512_cvtps_epi32(finite ? mul(a, factor) : set(0.0f));
    const __m512i high = _mm512_cvtps_epi32(finite ? mul(b, factor) : set(0.0f));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(quants), _mm512_cvtepi32_epi8(low));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(quants + 16), _mm512_cvtepi32_epi8(high));
    const std::int32_t sum = _mm512_reduce_add_epi32(_mm512_add_epi32(low, high));
    const float scale = finite ? largest / 127.0f : __builtin_nanf("");
    out = {scale, scale * static_cast<float>(sum), -8 * sum, -128 * sum};
  }
};

}  // namespace
}  // namespace troupe::kernels
