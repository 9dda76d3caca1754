// The operations that vector_kernels.hpp asks for, in AVX-512 with VNNI: 16 rows to a register. Included by one source
// file for each instruction set of the family, which says whether it has the bf16 dot product (TROUPE_AVX512_BF16).
// Knows no kernel.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/kernel_set.hpp"
#include "kernels/cpu/sample_passes.hpp"

namespace troupe::kernels {
namespace {

struct vec {
#if defined(TROUPE_AMX)
  static constexpr isa which = isa::amx;
#elif defined(TROUPE_AVX512_BF16)
  static constexpr isa which = isa::avx512bf16;
#else
  static constexpr isa which = isa::avx512vnni;
#endif
  static constexpr int rows = 16;
  static constexpr int units_at_once = 2;
#if defined(TROUPE_AMX)
  static constexpr bool has_tiles = true;
  static constexpr token_grouping grouping{16, 16};  // the rows of a tile
  static constexpr std::int64_t bf16_together = 32;  // the width of one

  /// Tiles 0 to 3 are sums, 16 rows of 16; 4 and 5 are activations, a token a row; 6 and 7 are weights, row r holding
  /// columns 4r to 4r+3 (int8) or 2r and 2r+1 (bf16) of 16 rows.
  static void begin_tiles(int activation_bytes) {
    struct alignas(64) {
      std::uint8_t palette = 1, start = 0, zero[14] = {};
      std::uint16_t row_bytes[16] = {};
      std::uint8_t rows[16] = {};
    } shape;
    for (int tile = 0; tile < 8; ++tile) {
      shape.row_bytes[tile] = static_cast<std::uint16_t>(tile == 4 || tile == 5 ? activation_bytes : 64);
      shape.rows[tile] = static_cast<std::uint8_t>(tile < 6 ? 16 : activation_bytes / 4);
    }
    asm volatile("" : : "r"(&shape) : "memory");  // the compiler believes that the instruction reads eight bytes of it
    _tile_loadconfig(&shape);
  }
  static void end_tiles() { _tile_release(); }
  /// dots[token][row] = quants . weights; tokens are 32 quants apart.
  static void tile_dots(const std::int8_t* quants, const std::byte* weights, std::int32_t* dots) {
    asm volatile("" ::: "memory");  // the compiler does not see that tiles are read
    _tile_zero(0);
    _tile_loadd(4, quants, 32);
    _tile_loadd(6, weights, 64);
    _tile_dpbsud(0, 4, 6);
    _tile_stored(0, dots, 64);
    asm volatile("" ::: "memory");
  }
  static __m512i sums_of(const std::int32_t* dots, __m512i start) {
    return _mm512_add_epi32(_mm512_load_si512(dots), start);
  }
  /// The same for bf16, for Units x Groups tiles of sums[unit][group][token][row], over `steps` times 32 columns, whose
  /// activations are `next` apart.
  template <int Units, int Groups>
  static void tile_sums(const std::uint16_t* const (&x)[Groups], const std::int64_t (&next)[Groups],
                        const std::byte* const (&weights)[Units], std::int64_t steps, float (*sums)[256]) {
    asm volatile("" ::: "memory");
    _tile_loadd(0, sums[0], 64);
    if constexpr (Groups > 1) _tile_loadd(1, sums[1], 64);
    if constexpr (Units > 1) _tile_loadd(2, sums[Groups], 64);
    if constexpr (Units > 1 && Groups > 1) _tile_loadd(3, sums[Groups + 1], 64);
    for (std::int64_t step = 0; step < steps; ++step) {
      _tile_loadd(4, x[0] + step * next[0], 64);
      _tile_loadd(6, weights[0] + step * 1024, 64);
      _tile_dpbf16ps(0, 4, 6);
      if constexpr (Groups > 1) {
        _tile_loadd(5, x[1] + step * next[1], 64);
        _tile_dpbf16ps(1, 5, 6);
      }
      if constexpr (Units > 1) {
        _tile_loadd(7, weights[1] + step * 1024, 64);
        _tile_dpbf16ps(2, 4, 7);
        if constexpr (Groups > 1) _tile_dpbf16ps(3, 5, 7);
      }
    }
    _tile_stored(0, sums[0], 64);
    if constexpr (Groups > 1) _tile_stored(1, sums[1], 64);
    if constexpr (Units > 1) _tile_stored(2, sums[Groups], 64);
    if constexpr (Units > 1 && Groups > 1) _tile_stored(3, sums[Groups + 1], 64);
    asm volatile("" ::: "memory");
  }
#else
  static constexpr bool has_tiles = false;
  static constexpr token_grouping grouping{};
#endif
#if defined(TROUPE_AMX)
  static constexpr int tokens_at_once = 4;  // more of them are left to the tiles
#else
  static constexpr int tokens_at_once =
      8;  // six are 12 integer and 12 float sums, 4 weights, 4 to spare; eight spill a few
#endif

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

  // Sampling
  /// Masses in two parts of 21 bits, so that whole numbers of 32 hold the sums of 1,024.
  struct mass_parts {
    __m512i high, low;
  };
  static mass_parts no_mass() { return {_mm512_setzero_si512(), _mm512_setzero_si512()}; }
  static mass_parts masses_of(f32x16 weights) {
    const __m512 unit = set(mass_part_unit), scaled = mul(weights, unit);
    const __m512i high = _mm512_cvttps_epi32(scaled);
    return {high, _mm512_cvttps_epi32(mul(sub(scaled, _mm512_cvtepi32_ps(high)), unit))};
  }
  static void add(mass_parts& to, mass_parts masses) {
    to = {_mm512_add_epi32(to.high, masses.high), _mm512_add_epi32(to.low, masses.low)};
  }
  /// Those of the logits that are not below.
  static void add_at_least(mass_parts& to, f32x16 logits, float limit, mass_parts masses) {
    const auto lanes = static_cast<__mmask16>(at_least(logits, limit));
    to = {_mm512_mask_add_epi32(to.high, lanes, to.high, masses.high),
          _mm512_mask_add_epi32(to.low, lanes, to.low, masses.low)};
  }
  static void store(std::uint32_t (&high)[16], std::uint32_t (&low)[16], mass_parts from) {
    _mm512_storeu_si512(high, from.high);
    _mm512_storeu_si512(low, from.low);
  }
  /// A bit for each lane; none for NaN.
  static std::uint32_t at_least(f32x16 x, float limit) { return _mm512_cmp_ps_mask(x, set(limit), _CMP_GE_OQ); }
  static constexpr bool stores_all_places = true;  ///< no bit costs as much as sixteen
  static std::uint32_t lanes_within(f32x16 x, logit_range range) {
    return _mm512_mask_cmp_ps_mask(_mm512_cmp_ps_mask(x, set(range.low), _CMP_GE_OQ), x, set(range.high), _CMP_LT_OQ);
  }
  /// first + lane for each bit, one after another; returns how many. Writes 16.
  static std::int64_t store_places(std::int32_t* to, std::int32_t first, std::uint32_t lanes) {
    const __m512i places =
        _mm512_add_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), set_ints(first));
    _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(static_cast<__mmask16>(lanes), places));
    return __builtin_popcount(lanes);
  }

  // Attention
  static constexpr int vectors_at_once = 6;
  static constexpr int kv_units_at_once = 4;  // 24 sums, 4 registers of K or V, a query
  using i32x16 = __m512i;
  static i32x16 no_ints() { return _mm512_setzero_si512(); }
  static i32x16 load_pairs(const std::byte* from) { return _mm512_loadu_si512(from); }
  /// The same from 16 pairs of bytes; from nibble `k` of 16 pairs of words, each the index of one of narrow_numbers.
  static i32x16 load_byte_pairs(const std::byte* from) {
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  }
  static i32x16 load_nibble_pairs(const std::byte* from, int k) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(narrow_numbers));
    const __m512i table =
        _mm512_broadcast_i64x4(_mm256_cvtepi8_epi16(bytes));  // twice, so that the nibble beside it is no matter
    return _mm512_permutexvar_epi16(shifted(_mm512_loadu_si512(from), 4 * k), table);
  }
  static f32x16 load_int16(const std::int16_t* from) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
  }
  static i32x16 same_pair(const std::int16_t* from) {
    std::int32_t word;
    __builtin_memcpy(&word, from, 4);
    return _mm512_set1_epi32(word);
  }
  /// sums + a[2i] * b[2i] + a[2i + 1] * b[2i + 1]
  static i32x16 dot_pairs(i32x16 sums, i32x16 a, i32x16 b) {
    sums = _mm512_dpwssd_epi32(sums, a, b);
    asm("" : "+v"(sums));  // keeps GCC from moving sums about between registers and the stack
    return sums;
  }
  /// x[i] +- x[i ^ 1], then of the results those 2, 4 and 8 apart: x by a Hadamard matrix of 16.
  static f32x16 butterflies(f32x16 x) {
    const auto stage = [](__m512 v, __m512 other, int minus) {
      return _mm512_add_ps(other, _mm512_mask_xor_ps(v, static_cast<__mmask16>(minus), v, set(-0.0f)));
    };
    x = stage(x, _mm512_permute_ps(x, 0xb1), 0xaaaa);
    x = stage(x, _mm512_permute_ps(x, 0x4e), 0xcccc);
    x = stage(x, _mm512_shuffle_f32x4(x, x, 0xb1), 0xf0f0);
    return stage(x, _mm512_shuffle_f32x4(x, x, 0x4e), 0xff00);
  }
  static f32x16 magnitude(f32x16 x) { return _mm512_abs_ps(x); }
  /// x - floor(x), and p * 2^floor(x)
  static f32x16 fraction(f32x16 x) { return _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
  static f32x16 times_power(f32x16 p, f32x16 x) { return _mm512_scalef_ps(p, x); }
  /// 0 from lane n on, 1 <= n <= 16.
  static f32x16 zero_from(f32x16 x, std::int32_t n) {
    return _mm512_maskz_mov_ps(static_cast<__mmask16>(0xffffu >> (16 - n)), x);
  }
  static f32x16 load_bf16(const std::byte* from) {
    const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
  }
  static void store_int16(std::int16_t* out, f32x16 x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(x)));
  }
  /// 16 bits of `even` and 16 of `odd` by turns; store_high leaves what is there of `even`.
  static void store_pairs(std::byte* out, f32x16 even, f32x16 odd) {
    const __m512i low = _mm512_and_si512(_mm512_cvtps_epi32(even), _mm512_set1_epi32(0xffff));
    _mm512_storeu_si512(out, _mm512_or_si512(low, _mm512_slli_epi32(_mm512_cvtps_epi32(odd), 16)));
  }
  static void store_high(std::byte* out, f32x16 odd) {
    const __m512i low = _mm512_and_si512(_mm512_loadu_si512(out), _mm512_set1_epi32(0xffff));
    _mm512_storeu_si512(out, _mm512_or_si512(low, _mm512_slli_epi32(_mm512_cvtps_epi32(odd), 16)));
  }
  /// x[2i], x[2i + 1] turned by the i-th angle, for 16 pairs.
  static void rotate_pairs(float* x, f32x16 cosines, f32x16 sines) {
    for (int half = 0; half < 2; ++half, x += 16) {
      const __m512i twice = _mm512_add_epi32(_mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7),
                                             _mm512_set1_epi32(8 * half));
      const __m512 v = _mm512_loadu_ps(x);
      const __m512 turned = _mm512_mul_ps(_mm512_permute_ps(v, 0xb1), _mm512_permutexvar_ps(twice, sines));
      _mm512_storeu_ps(x, _mm512_fmaddsub_ps(v, _mm512_permutexvar_ps(twice, cosines), turned));
    }
  }

  // The rows of a unit
  using row_floats = __m512;
  using row_ints = __m512i;
  static row_floats zero_rows() { return _mm512_setzero_ps(); }
  static row_floats set_rows(float x) { return set(x); }
  static row_floats load_rows(const float* x) { return load(x); }
  static void store_rows(float* out, row_floats x) { store(out, x); }
  static row_floats mul_rows(row_floats a, row_floats b) { return mul(a, b); }
  static row_floats fma_rows(row_floats a, row_floats b, row_floats c) { return fma(a, b, c); }
  static row_ints set_ints(std::int32_t x) { return _mm512_set1_epi32(x); }
  static row_floats to_floats(row_ints x) { return _mm512_cvtepi32_ps(x); }
  static row_floats sub_rows(row_floats a, row_floats b) { return sub(a, b); }
  static row_floats negate_rows(row_floats x) { return _mm512_xor_ps(x, set(-0.0f)); }
  static row_floats load_half(const std::byte* from) { return load_f16(from); }
  static __m128i load_sixteen(const std::byte* from) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)); }
  /// Signed bytes.
  static row_floats load_numbers(const std::byte* from) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load_sixteen(from)));
  }
  static void load_nibbles(const std::byte* from, row_floats& low, row_floats& high) {
    const __m512i bytes = _mm512_cvtepu8_epi32(load_sixteen(from));
    low = _mm512_cvtepi32_ps(_mm512_and_si512(bytes, _mm512_set1_epi32(15)));
    high = _mm512_cvtepi32_ps(_mm512_srli_epi32(bytes, 4));
  }
  /// 2^(byte - 128), also where that is subnormal.
  static row_floats load_exponents(const std::byte* from) {
    const __m512i exponents = _mm512_slli_epi32(_mm512_cvtepu8_epi32(load_sixteen(from)), 23);
    return mul(_mm512_castsi512_ps(_mm512_max_epi32(exponents, _mm512_set1_epi32(0x00400000))), set(0.5f));
  }
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
#if !defined(TROUPE_AMX)
  static constexpr std::int64_t bf16_together = 2;
#endif
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
  static constexpr std::int64_t bf16_together = 1;
#endif

  static __m512i four_columns(const std::int8_t* quants) {
    std::int32_t word;
    __builtin_memcpy(&word, quants, 4);
    return _mm512_set1_epi32(word);
  }

  // 64 bytes: 4 columns of 16 rows
  using row_bytes = __m512i;
  static void store_bytes(std::byte* to, row_bytes x) { _mm512_storeu_si512(to, x); }
  static row_bytes load_bytes(const std::byte* from) { return _mm512_loadu_si512(from); }
  static row_bytes shifted(row_bytes x, int right) {
    return right >= 0 ? reinterpret_cast<__m512i>(reinterpret_cast<__v32hu>(x) >> right)
                      : reinterpret_cast<__m512i>(reinterpret_cast<__v32hu>(x) << -right);
  }
  /// x >> right (or << -right) & mask, in each byte
  static row_bytes bits(row_bytes x, int right, int mask) {
    return _mm512_and_si512(shifted(x, right), _mm512_set1_epi8(static_cast<char>(mask)));
  }
  /// the same, or'ed to what there is
  static row_bytes with_bits(row_bytes have, row_bytes x, int right, int mask) {
    constexpr int a_and_b_or_c = 0xea;
    return _mm512_ternarylogic_epi32(shifted(x, right), _mm512_set1_epi8(static_cast<char>(mask)), have, a_and_b_or_c);
  }
  static row_bytes look_up(const std::uint8_t* table, row_bytes at) {
    const __m128i sixteen = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(sixteen), at);
  }
  /// first * sums[0] + second * sums[1]
  static row_ints weighted_sum(const std::int16_t (&sums)[2], int first, int second) {
    std::int32_t both;
    __builtin_memcpy(&both, sums, 4);
    return _mm512_madd_epi16(_mm512_set1_epi32(both), _mm512_set1_epi32((first & 0xffff) | second << 16));
  }

  // Sums of products u * q
  using row_sums = __m512i;
  static constexpr bool signed_above_63 = false;
  static constexpr bool has_token_pairs = false;
  static row_sums sums_from(row_ints start) { return start; }
  template <int Largest, int Steps>
  static void add_products(row_sums& to, row_bytes u, row_bytes q, int) {
    to = _mm512_dpbusd_epi32(to, u, q);
  }

  /// As the scalar kernel's, bit for bit.
  static void quantise_block(const float* x, std::int8_t* quants, activation_block& out) {
    const __m512 a = load(x);
    const __m512 b = load(x + 16);
    // As integers, magnitudes keep their order, and what is not finite lies above all others.
    const __m512i magnitudes =
        _mm512_max_epi32(_mm512_castps_si512(_mm512_abs_ps(a)), _mm512_castps_si512(_mm512_abs_ps(b)));
    const std::int32_t bits = _mm512_reduce_max_epi32(magnitudes);
    const bool finite = bits < 0x7f800000;
    float largest;
    __builtin_memcpy(&largest, &bits, 4);
    float inverse = finite && bits > 0 ? 127.0f / largest : 0.0f;
    if (!(inverse <= 3.4028235e38f)) inverse = 0.0f;
    const __mmask16 kept = finite ? 0xffff : 0;
    const __m512i low = _mm512_cvtps_epi32(_mm512_maskz_mul_ps(kept, a, set(inverse)));
    const __m512i high = _mm512_cvtps_epi32(_mm512_maskz_mul_ps(kept, b, set(inverse)));
    const __m256i bytes =
        _mm256_inserti128_si256(_mm256_castsi128_si256(_mm512_cvtepi32_epi8(low)), _mm512_cvtepi32_epi8(high), 1);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(quants), bytes);
    // Sums of eight bytes, each 128 too large.
    const __m256i eights = _mm256_sad_epu8(_mm256_xor_si256(bytes, _mm256_set1_epi8(-128)), _mm256_setzero_si256());
    const __m256i halves = _mm256_add_epi64(eights, _mm256_unpackhi_epi64(eights, eights));
    const std::int32_t first = _mm256_cvtsi256_si32(halves) - 16 * 128;
    const std::int32_t second = _mm_cvtsi128_si32(_mm256_extracti128_si256(halves, 1)) - 16 * 128;
    const float scale = finite ? largest / 127.0f : __builtin_nanf("");
    out = block_of(scale, first, second);
  }
};

}  // namespace
}  // namespace troupe::kernels
