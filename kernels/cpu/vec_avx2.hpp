// The operations that vector_kernels.hpp asks for, in AVX2, FMA and F16C: 8 rows to a register, half a tile. Included
// by one source file for each instruction set of the family, which says whether it has the VNNI dot product
// (TROUPE_AVX_VNNI). Knows no kernel.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/kernel_set.hpp"
#include "kernels/cpu/sample_passes.hpp"

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
  static constexpr token_grouping grouping{4};  // = tokens_at_once
  static constexpr bool has_tiles = false;
  static constexpr bool has_token_pairs = false;
  static constexpr int tokens_at_once = 4;  // 16 registers: 4 integer and 4 float sums, weights, masks

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

  // Sampling
  /// Masses in two parts of 21 bits, so that whole numbers of 32 hold the sums of 1,024.
  struct mass_parts {
    __m256i high[2], low[2];
  };
  static mass_parts no_mass() {
    return {{_mm256_setzero_si256(), _mm256_setzero_si256()}, {_mm256_setzero_si256(), _mm256_setzero_si256()}};
  }
  static mass_parts masses_of(f32x16 weights) {
    const f32x16 unit = set(mass_part_unit), scaled = mul(weights, unit);
    const __m256i high[2] = {_mm256_cvttps_epi32(scaled.low), _mm256_cvttps_epi32(scaled.high)};
    const f32x16 rest = mul(sub(scaled, {_mm256_cvtepi32_ps(high[0]), _mm256_cvtepi32_ps(high[1])}), unit);
    return {{high[0], high[1]}, {_mm256_cvttps_epi32(rest.low), _mm256_cvttps_epi32(rest.high)}};
  }
  static void add(mass_parts& to, const mass_parts& masses) {
    for (int i = 0; i < 2; ++i) {
      to.high[i] = _mm256_add_epi32(to.high[i], masses.high[i]);
      to.low[i] = _mm256_add_epi32(to.low[i], masses.low[i]);
    }
  }
  /// Those of the logits that are not below.
  static void add_at_least(mass_parts& to, f32x16 logits, float limit, const mass_parts& masses) {
    const __m256 bound = _mm256_set1_ps(limit);
    const __m256i kept[2] = {_mm256_castps_si256(_mm256_cmp_ps(logits.low, bound, _CMP_GE_OQ)),
                             _mm256_castps_si256(_mm256_cmp_ps(logits.high, bound, _CMP_GE_OQ))};
    for (int i = 0; i < 2; ++i) {
      to.high[i] = _mm256_add_epi32(to.high[i], _mm256_and_si256(kept[i], masses.high[i]));
      to.low[i] = _mm256_add_epi32(to.low[i], _mm256_and_si256(kept[i], masses.low[i]));
    }
  }
  static void store(std::uint32_t (&high)[16], std::uint32_t (&low)[16], const mass_parts& from) {
    for (int i = 0; i < 2; ++i) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(high + 8 * i), from.high[i]);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(low + 8 * i), from.low[i]);
    }
  }
  /// A bit for each lane; none for NaN.
  static std::uint32_t at_least(f32x16 x, float limit) {
    const __m256 bound = _mm256_set1_ps(limit);
    const int low = _mm256_movemask_ps(_mm256_cmp_ps(x.low, bound, _CMP_GE_OQ));
    return static_cast<std::uint32_t>(low | _mm256_movemask_ps(_mm256_cmp_ps(x.high, bound, _CMP_GE_OQ)) << 8);
  }
  static std::uint32_t lanes_within(f32x16 x, logit_range range) {
    return at_least(x, range.low) & ~at_least(x, range.high);
  }
  static constexpr bool stores_all_places = false;
  /// first + lane for each bit, one after another; returns how many.
  static std::int64_t store_places(std::int32_t* to, std::int32_t first, std::uint32_t lanes) {
    const std::int64_t count = __builtin_popcount(lanes);
    for (; lanes != 0; lanes &= lanes - 1) *to++ = first + __builtin_ctz(lanes);
    return count;
  }

  // Attention
  static constexpr int vectors_at_once = 4;
  static constexpr int kv_units_at_once = 1;  // 8 sums, 2 registers of K or V, a query, products
  struct i32x16 {
    __m256i low, high;
  };
  static i32x16 no_ints() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
  static i32x16 load_pairs(const std::byte* from) {
    const auto* at = reinterpret_cast<const __m256i*>(from);
    return {_mm256_loadu_si256(at), _mm256_loadu_si256(at + 1)};
  }
  /// The same from 16 pairs of bytes; from nibble `k` of 16 pairs of words, each the index of one of narrow_numbers.
  static __m256i load_sixteen_bytes(const std::byte* from) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  static i32x16 load_byte_pairs(const std::byte* from) {
    return {load_sixteen_bytes(from), load_sixteen_bytes(from + 16)};
  }
  static __m256i load_nibble_words(const std::byte* from, int k) {
    const __m256i table =
        _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(narrow_numbers)));
    const __m256i nibbles = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    const __m256i numbers = _mm256_shuffle_epi8(table, bits(nibbles, k % 2 * 4, 15));
    return _mm256_srai_epi16(k < 2 ? _mm256_slli_epi16(numbers, 8) : numbers, 8);
  }
  static i32x16 load_nibble_pairs(const std::byte* from, int k) {
    return {load_nibble_words(from, k), load_nibble_words(from + 32, k)};
  }
  static __m256 load_eight_int16(const std::int16_t* from) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
  }
  static f32x16 load_int16(const std::int16_t* from) { return {load_eight_int16(from), load_eight_int16(from + 8)}; }
  static i32x16 same_pair(const std::int16_t* from) {
    std::int32_t word;
    __builtin_memcpy(&word, from, 4);
    return {_mm256_set1_epi32(word), _mm256_set1_epi32(word)};
  }
  static __m256i dot_pairs(__m256i sums, __m256i a, __m256i b) {
#if defined(TROUPE_AVX_VNNI)
    return _mm256_dpwssd_avx_epi32(sums, a, b);
#else
    return _mm256_add_epi32(sums, _mm256_madd_epi16(a, b));
#endif
  }
  /// sums + a[2i] * b[2i] + a[2i + 1] * b[2i + 1]
  static i32x16 dot_pairs(i32x16 sums, i32x16 a, i32x16 b) {
    i32x16 next{dot_pairs(sums.low, a.low, b.low), dot_pairs(sums.high, a.high, b.high)};
    asm("" : "+x"(next.low), "+x"(next.high));  // keeps GCC from moving sums about between registers and the stack
    return next;
  }
  static f32x16 to_floats(i32x16 x) { return {_mm256_cvtepi32_ps(x.low), _mm256_cvtepi32_ps(x.high)}; }
  /// x[i] +- x[i ^ 1], then of the results those 2, 4 and 8 apart: x by a Hadamard matrix of 16.
  static __m256 eight_butterflies(__m256 x) {
    const __m256 odd = _mm256_setr_ps(0, -0.0f, 0, -0.0f, 0, -0.0f, 0, -0.0f);
    const __m256 upper_two = _mm256_setr_ps(0, 0, -0.0f, -0.0f, 0, 0, -0.0f, -0.0f);
    const __m256 upper_four = _mm256_setr_ps(0, 0, 0, 0, -0.0f, -0.0f, -0.0f, -0.0f);
    x = _mm256_add_ps(_mm256_permute_ps(x, 0xb1), _mm256_xor_ps(x, odd));
    x = _mm256_add_ps(_mm256_permute_ps(x, 0x4e), _mm256_xor_ps(x, upper_two));
    return _mm256_add_ps(_mm256_permute2f128_ps(x, x, 0x01), _mm256_xor_ps(x, upper_four));
  }
  static f32x16 butterflies(f32x16 x) {
    const __m256 low = eight_butterflies(x.low), high = eight_butterflies(x.high);
    return {_mm256_add_ps(low, high), _mm256_sub_ps(low, high)};
  }
  static f32x16 magnitude(f32x16 x) {
    const __m256 no_sign = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    return {_mm256_and_ps(x.low, no_sign), _mm256_and_ps(x.high, no_sign)};
  }
  /// x - floor(x), and p * 2^floor(x) for x up to 1
  static f32x16 fraction(f32x16 x) {
    return {_mm256_sub_ps(x.low, _mm256_floor_ps(x.low)), _mm256_sub_ps(x.high, _mm256_floor_ps(x.high))};
  }
  static f32x16 times_power(f32x16 p, f32x16 x) {
    const __m256 least = _mm256_set1_ps(-127.0f);
    return {_mm256_mul_ps(p.low, exp2i(_mm256_floor_ps(_mm256_max_ps(x.low, least)))),
            _mm256_mul_ps(p.high, exp2i(_mm256_floor_ps(_mm256_max_ps(x.high, least))))};
  }
  /// 0 from lane n on, 1 <= n <= 16.
  static f32x16 zero_from(f32x16 x, std::int32_t n) {
    const __m256i count = _mm256_set1_epi32(n);
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i low = _mm256_cmpgt_epi32(count, lanes);
    const __m256i high = _mm256_cmpgt_epi32(count, _mm256_add_epi32(lanes, _mm256_set1_epi32(8)));
    return {_mm256_and_ps(x.low, _mm256_castsi256_ps(low)), _mm256_and_ps(x.high, _mm256_castsi256_ps(high))};
  }
  static __m256 load_eight_bf16(const std::byte* from) {
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
  }
  static f32x16 load_bf16(const std::byte* from) { return {load_eight_bf16(from), load_eight_bf16(from + 16)}; }
  static void store_int16(std::int16_t* out, f32x16 x) {
    const __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(x.low), _mm256_cvtps_epi32(x.high));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_permute4x64_epi64(words, 0xd8));
  }
  static __m256i pairs_of(__m256i low, __m256 odd) {
    return _mm256_blend_epi16(low, _mm256_slli_epi32(_mm256_cvtps_epi32(odd), 16), 0xaa);
  }
  /// 16 bits of `even` and 16 of `odd` by turns; store_high leaves what is there of `even`.
  static void store_pairs(std::byte* out, f32x16 even, f32x16 odd) {
    auto* to = reinterpret_cast<__m256i*>(out);
    _mm256_storeu_si256(to, pairs_of(_mm256_cvtps_epi32(even.low), odd.low));
    _mm256_storeu_si256(to + 1, pairs_of(_mm256_cvtps_epi32(even.high), odd.high));
  }
  static void store_high(std::byte* out, f32x16 odd) {
    auto* to = reinterpret_cast<__m256i*>(out);
    _mm256_storeu_si256(to, pairs_of(_mm256_loadu_si256(to), odd.low));
    _mm256_storeu_si256(to + 1, pairs_of(_mm256_loadu_si256(to + 1), odd.high));
  }
  static void rotate_eight(float* x, __m256 cosines, __m256 sines, __m256i twice) {
    const __m256 v = _mm256_loadu_ps(x);
    const __m256 turned = _mm256_mul_ps(_mm256_permute_ps(v, 0xb1), _mm256_permutevar8x32_ps(sines, twice));
    _mm256_storeu_ps(x, _mm256_fmaddsub_ps(v, _mm256_permutevar8x32_ps(cosines, twice), turned));
  }
  /// x[2i], x[2i + 1] turned by the i-th angle, for 16 pairs.
  static void rotate_pairs(float* x, f32x16 cosines, f32x16 sines) {
    const __m256i first = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3), second = _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7);
    rotate_eight(x, cosines.low, sines.low, first);
    rotate_eight(x + 8, cosines.low, sines.low, second);
    rotate_eight(x + 16, cosines.high, sines.high, first);
    rotate_eight(x + 24, cosines.high, sines.high, second);
  }

  // The rows of a unit
  using row_floats = __m256;
  using row_ints = __m256i;
  static row_floats zero_rows() { return _mm256_setzero_ps(); }
  static row_floats set_rows(float x) { return _mm256_set1_ps(x); }
  static row_floats load_rows(const float* x) { return _mm256_loadu_ps(x); }
  static void store_rows(float* out, row_floats x) { _mm256_storeu_ps(out, x); }
  static row_floats mul_rows(row_floats a, row_floats b) { return _mm256_mul_ps(a, b); }
  static row_floats fma_rows(row_floats a, row_floats b, row_floats c) { return _mm256_fmadd_ps(a, b, c); }
  static row_ints set_ints(std::int32_t x) { return _mm256_set1_epi32(x); }
  static row_floats to_floats(row_ints x) { return _mm256_cvtepi32_ps(x); }
  static row_floats sub_rows(row_floats a, row_floats b) { return _mm256_sub_ps(a, b); }
  static row_floats negate_rows(row_floats x) { return _mm256_xor_ps(x, _mm256_set1_ps(-0.0f)); }
  static row_floats load_half(const std::byte* from) { return load_eight_f16(from); }
  static __m128i load_eight(const std::byte* from) { return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)); }
  /// Signed bytes.
  static row_floats load_numbers(const std::byte* from) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(load_eight(from)));
  }
  static void load_nibbles(const std::byte* from, row_floats& low, row_floats& high) {
    const __m256i bytes = _mm256_cvtepu8_epi32(load_eight(from));
    low = _mm256_cvtepi32_ps(_mm256_and_si256(bytes, _mm256_set1_epi32(15)));
    high = _mm256_cvtepi32_ps(_mm256_srli_epi32(bytes, 4));
  }
  /// 2^(byte - 128), also where that is subnormal.
  static row_floats load_exponents(const std::byte* from) {
    const __m256i exponents = _mm256_slli_epi32(_mm256_cvtepu8_epi32(load_eight(from)), 23);
    const __m256i normal = _mm256_max_epi32(exponents, _mm256_set1_epi32(0x00400000));
    return _mm256_mul_ps(_mm256_castsi256_ps(normal), _mm256_set1_ps(0.5f));
  }
  static constexpr bool has_bf16_dots = false;
  static constexpr std::int64_t bf16_together = 1;
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

  // 32 bytes: 4 columns of 8 rows
  using row_bytes = __m256i;
  static void store_bytes(std::byte* to, row_bytes x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), x); }
  static row_bytes load_bytes(const std::byte* from) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  }
  static row_bytes shifted(row_bytes x, int right) {
    return right >= 0 ? reinterpret_cast<__m256i>(reinterpret_cast<__v16hu>(x) >> right)
                      : reinterpret_cast<__m256i>(reinterpret_cast<__v16hu>(x) << -right);
  }
  /// x >> right (or << -right) & mask, in each byte
  static row_bytes bits(row_bytes x, int right, int mask) {
    return _mm256_and_si256(shifted(x, right), _mm256_set1_epi8(static_cast<char>(mask)));
  }
  /// the same, or'ed to what there is
  static row_bytes with_bits(row_bytes have, row_bytes x, int right, int mask) {
    return _mm256_or_si256(have, bits(x, right, mask));
  }
  static row_bytes look_up(const std::uint8_t* table, row_bytes at) {
    const __m128i sixteen = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(sixteen), at);
  }
  /// first * sums[0] + second * sums[1]
  static row_ints weighted_sum(const std::int16_t (&sums)[2], int first, int second) {
    std::int32_t both;
    __builtin_memcpy(&both, sums, 4);
    return _mm256_madd_epi16(_mm256_set1_epi32(both), _mm256_set1_epi32((first & 0xffff) | second << 16));
  }

  // Sums of products u * q
#if defined(TROUPE_AVX_VNNI)
  using row_sums = __m256i;
  static constexpr bool signed_above_63 = false;
  static row_sums sums_from(row_ints start) { return start; }
  template <int Largest, int Steps>
  static void add_products(row_sums& to, row_bytes u, row_bytes q, int) {
    to = _mm256_dpbusd_avx_epi32(to, u, q);
  }
#else
  struct row_sums {
    __m256i ints;
    __m256i shorts;  // of the last few steps, whose sum cannot leave 16 bits
  };
  static constexpr bool signed_above_63 = true;
  static row_sums sums_from(row_ints start) { return {start, _mm256_setzero_si256()}; }
  static row_floats to_floats(row_sums x) { return to_floats(x.ints); }
  /// Step `step` of the `Steps` of a sum. maddubs saturates at 32767, and a pair of u * q reaches 2 * 127 * Largest.
  template <int Largest, int Steps>
  static void add_products(row_sums& to, row_bytes u, row_bytes q, int step) {
    if constexpr (Largest > 63) {
      // q is multiplied with |u - 128| after taking its sign: a pair is at most 2 * 128 * 127 = 32512. The offset is
      // gone, and with it the start value.
      const __m256i weights = _mm256_xor_si256(u, _mm256_set1_epi8(-128));
      const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(q, weights));
      to.ints = _mm256_add_epi32(to.ints, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    } else {
      constexpr int room = 32767 / (2 * 127 * Largest);
      constexpr int together = room >= Steps ? Steps : room >= 4 ? 4 : 2;
      static_assert(room >= together && Steps % together == 0);
      to.shorts = _mm256_add_epi16(to.shorts, _mm256_maddubs_epi16(u, q));
      if (step % together != together - 1) return;
      to.ints = _mm256_add_epi32(to.ints, _mm256_madd_epi16(to.shorts, _mm256_set1_epi16(1)));
      to.shorts = _mm256_setzero_si256();
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
    std::int32_t sums[2] = {};
    for (int i = 0; i < 32; ++i) sums[i / 16] += quants[i];
    out = block_of(finite ? largest / 127.0f : __builtin_nanf(""), sums[0], sums[1]);
  }
};

}  // namespace
}  // namespace troupe::kernels
