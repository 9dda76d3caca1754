// The operations that vector_kernels.hpp asks for, in NEON with the 8-bit dot product (ARMv8.2): 4 rows to a register,
// a quarter of a tile. Included by one source file for each instruction set, which says whether it has the products of
// matrices of bytes too (TROUPE_NEON_I8MM). Knows no kernel.
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/kernel_set.hpp"
#include "kernels/cpu/sample_passes.hpp"

namespace troupe::kernels {
namespace {

struct vec {
#if defined(TROUPE_NEON_I8MM)
  static constexpr isa which = isa::neon_i8mm;
#else
  static constexpr isa which = isa::neon;
#endif
  static constexpr int rows = 4;
  static constexpr int units_at_once = 2;
  static constexpr token_grouping grouping{};
  static constexpr bool has_tiles = false;
  static constexpr int tokens_at_once = 6;  // 32 registers: 12 integer and 12 float sums, 4 weights

  // 16 floats
  struct f32x16 {
    float32x4_t v[4];
  };
  template <class Work>
  static f32x16 each(Work work) {
    return {{work(0), work(1), work(2), work(3)}};
  }
  static f32x16 set(float x) {
    return each([&](int) { return vdupq_n_f32(x); });
  }
  static f32x16 load(const float* x) {
    return each([&](int i) { return vld1q_f32(x + 4 * i); });
  }
  static void store(float* out, f32x16 x) {
    for (int i = 0; i < 4; ++i) vst1q_f32(out + 4 * i, x.v[i]);
  }
  static f32x16 add(f32x16 a, f32x16 b) {
    return each([&](int i) { return vaddq_f32(a.v[i], b.v[i]); });
  }
  static f32x16 sub(f32x16 a, f32x16 b) {
    return each([&](int i) { return vsubq_f32(a.v[i], b.v[i]); });
  }
  static f32x16 mul(f32x16 a, f32x16 b) {
    return each([&](int i) { return vmulq_f32(a.v[i], b.v[i]); });
  }
  static f32x16 div(f32x16 a, f32x16 b) {
    return each([&](int i) { return vdivq_f32(a.v[i], b.v[i]); });
  }
  static f32x16 fma(f32x16 a, f32x16 b, f32x16 c) {
    return each([&](int i) { return vfmaq_f32(c.v[i], a.v[i], b.v[i]); });
  }
  // The first operand comes through where one is NaN.
  static f32x16 max(f32x16 a, f32x16 b) {
    return each([&](int i) { return vbslq_f32(vcgtq_f32(b.v[i], a.v[i]), b.v[i], a.v[i]); });
  }
  static f32x16 min(f32x16 a, f32x16 b) {
    return each([&](int i) { return vbslq_f32(vcltq_f32(b.v[i], a.v[i]), b.v[i], a.v[i]); });
  }
  static f32x16 round(f32x16 x) {
    return each([&](int i) { return vrndnq_f32(x.v[i]); });
  }
  static float32x4_t exp2i(float32x4_t n) {
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127)), 23));
  }
  static f32x16 exp2i(f32x16 n) {
    return each([&](int i) { return exp2i(n.v[i]); });
  }
  static f32x16 zero_where_below(f32x16 x, float limit, f32x16 y) {
    return each([&](int i) {
      const uint32x4_t kept = vmvnq_u32(vcltq_f32(x.v[i], vdupq_n_f32(limit)));
      return vreinterpretq_f32_u32(vandq_u32(kept, vreinterpretq_u32_f32(y.v[i])));
    });
  }
  /// Halves are added until one number is left, as in every set.
  static float sum(f32x16 x) {
    const float32x4_t four = vaddq_f32(vaddq_f32(x.v[0], x.v[2]), vaddq_f32(x.v[1], x.v[3]));
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
  }
  static float max_of(f32x16 x) {
    return vmaxvq_f32(vmaxq_f32(vmaxq_f32(x.v[0], x.v[1]), vmaxq_f32(x.v[2], x.v[3])));  // a NaN comes through
  }
  static uint32x4_t before(int i, std::int32_t n) {
    static constexpr std::int32_t lanes[4] = {0, 1, 2, 3};
    return vcgtq_s32(vdupq_n_s32(n), vaddq_s32(vld1q_s32(lanes), vdupq_n_s32(4 * i)));
  }
  /// -inf from lane n on.
  static f32x16 first_lanes(f32x16 x, std::int32_t n) {
    return each([&](int i) { return vbslq_f32(before(i, n), x.v[i], vdupq_n_f32(-__builtin_inff())); });
  }
  static float32x4_t load_four_f16(const void* from) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(static_cast<const std::uint16_t*>(from))));
  }
  static f32x16 load_f16(const std::uint16_t* from) {
    return each([&](int i) { return load_four_f16(from + 4 * i); });
  }
  static void store_f16(std::uint16_t* out, f32x16 x) {
    for (int i = 0; i < 4; ++i) vst1_u16(out + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(x.v[i])));
  }

  // Sampling
  /// Masses in two parts of 21 bits, so that whole numbers of 32 hold the sums of 1,024.
  struct mass_parts {
    uint32x4_t high[4], low[4];
  };
  static mass_parts no_mass() {
    mass_parts none;
    for (int i = 0; i < 4; ++i) none.high[i] = none.low[i] = vdupq_n_u32(0);
    return none;
  }
  static mass_parts masses_of(f32x16 weights) {
    mass_parts of;
    for (int i = 0; i < 4; ++i) {
      const float32x4_t scaled = vmulq_n_f32(weights.v[i], mass_part_unit);
      of.high[i] = vcvtq_u32_f32(scaled);
      of.low[i] = vcvtq_u32_f32(vmulq_n_f32(vsubq_f32(scaled, vcvtq_f32_u32(of.high[i])), mass_part_unit));
    }
    return of;
  }
  static void add(mass_parts& to, const mass_parts& masses) {
    for (int i = 0; i < 4; ++i) {
      to.high[i] = vaddq_u32(to.high[i], masses.high[i]);
      to.low[i] = vaddq_u32(to.low[i], masses.low[i]);
    }
  }
  /// Those of the logits that are not below.
  static void add_at_least(mass_parts& to, f32x16 logits, float limit, const mass_parts& masses) {
    for (int i = 0; i < 4; ++i) {
      const uint32x4_t kept = vcgeq_f32(logits.v[i], vdupq_n_f32(limit));
      to.high[i] = vaddq_u32(to.high[i], vandq_u32(kept, masses.high[i]));
      to.low[i] = vaddq_u32(to.low[i], vandq_u32(kept, masses.low[i]));
    }
  }
  static void store(std::uint32_t (&high)[16], std::uint32_t (&low)[16], const mass_parts& from) {
    for (int i = 0; i < 4; ++i) {
      vst1q_u32(high + 4 * i, from.high[i]);
      vst1q_u32(low + 4 * i, from.low[i]);
    }
  }
  /// A bit for each lane; none for NaN.
  static std::uint32_t at_least(f32x16 x, float limit) {
    static constexpr std::uint32_t bits[4] = {1, 2, 4, 8};
    std::uint32_t lanes = 0;
    for (int i = 0; i < 4; ++i)
      lanes |= vaddvq_u32(vandq_u32(vcgeq_f32(x.v[i], vdupq_n_f32(limit)), vld1q_u32(bits))) << (4 * i);
    return lanes;
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
  static constexpr int kv_units_at_once = 1;
  struct i32x16 {
    int32x4_t v[4];
  };
  static i32x16 no_ints() { return {{vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)}}; }
  static int32x4_t load_ints(const std::byte* from) {
    return vreinterpretq_s32_u8(vld1q_u8(reinterpret_cast<const std::uint8_t*>(from)));
  }
  static i32x16 load_pairs(const std::byte* from) {
    return {{load_ints(from), load_ints(from + 16), load_ints(from + 32), load_ints(from + 48)}};
  }
  /// The same from 16 pairs of bytes; from nibble `k` of 16 pairs of words, each the index of one of narrow_numbers.
  static i32x16 load_byte_pairs(const std::byte* from) {
    const auto four = [&](int i) {
      return vreinterpretq_s32_s16(vmovl_s8(vld1_s8(reinterpret_cast<const std::int8_t*>(from) + 8 * i)));
    };
    return {{four(0), four(1), four(2), four(3)}};
  }
  static int32x4_t load_nibble_words(const std::byte* from, int k) {
    const uint8x16_t nibbles = bits(load_bytes(from), k % 2 * 4, 15);
    const int16x8_t numbers = vreinterpretq_s16_s8(vqtbl1q_s8(vld1q_s8(narrow_numbers), nibbles));
    return vreinterpretq_s32_s16(vshrq_n_s16(k < 2 ? vshlq_n_s16(numbers, 8) : numbers, 8));
  }
  static i32x16 load_nibble_pairs(const std::byte* from, int k) {
    return {{load_nibble_words(from, k), load_nibble_words(from + 16, k), load_nibble_words(from + 32, k),
             load_nibble_words(from + 48, k)}};
  }
  static f32x16 load_int16(const std::int16_t* from) {
    return each([&](int i) { return vcvtq_f32_s32(vmovl_s16(vld1_s16(from + 4 * i))); });
  }
  static i32x16 same_pair(const std::int16_t* from) {
    std::int32_t word;
    __builtin_memcpy(&word, from, 4);
    const int32x4_t all = vdupq_n_s32(word);
    return {{all, all, all, all}};
  }
  static int32x4_t dot_pairs(int32x4_t sums, int32x4_t a, int32x4_t b) {
    const int16x8_t left = vreinterpretq_s16_s32(a), right = vreinterpretq_s16_s32(b);
    return vaddq_s32(sums, vpaddq_s32(vmull_s16(vget_low_s16(left), vget_low_s16(right)), vmull_high_s16(left, right)));
  }
  /// sums + a[2i] * b[2i] + a[2i + 1] * b[2i + 1]
  static i32x16 dot_pairs(i32x16 sums, i32x16 a, i32x16 b) {
    for (int i = 0; i < 4; ++i) sums.v[i] = dot_pairs(sums.v[i], a.v[i], b.v[i]);
    return sums;
  }
  static f32x16 to_floats(i32x16 x) {
    return each([&](int i) { return vcvtq_f32_s32(x.v[i]); });
  }
  /// x[i] +- x[i ^ 1], then of the results those 2, 4 and 8 apart: x by a Hadamard matrix of 16.
  static float32x4_t four_butterflies(float32x4_t x) {
    static constexpr float odd[4] = {1, -1, 1, -1}, upper[4] = {1, 1, -1, -1};
    x = vaddq_f32(vrev64q_f32(x), vmulq_f32(x, vld1q_f32(odd)));
    return vaddq_f32(vextq_f32(x, x, 2), vmulq_f32(x, vld1q_f32(upper)));
  }
  static f32x16 butterflies(f32x16 x) {
    const f32x16 four = each([&](int i) { return four_butterflies(x.v[i]); });
    const f32x16 eight = each(
        [&](int i) { return i % 2 == 0 ? vaddq_f32(four.v[i], four.v[i + 1]) : vsubq_f32(four.v[i - 1], four.v[i]); });
    return each(
        [&](int i) { return i < 2 ? vaddq_f32(eight.v[i], eight.v[i + 2]) : vsubq_f32(eight.v[i - 2], eight.v[i]); });
  }
  static f32x16 magnitude(f32x16 x) {
    return each([&](int i) { return vabsq_f32(x.v[i]); });
  }
  /// x - floor(x), and p * 2^floor(x) for x up to 1
  static f32x16 fraction(f32x16 x) {
    return each([&](int i) { return vsubq_f32(x.v[i], vrndmq_f32(x.v[i])); });
  }
  static f32x16 times_power(f32x16 p, f32x16 x) {
    return each([&](int i) { return vmulq_f32(p.v[i], exp2i(vrndmq_f32(vmaxq_f32(x.v[i], vdupq_n_f32(-127.0f))))); });
  }
  /// 0 from lane n on, 1 <= n <= 16.
  static f32x16 zero_from(f32x16 x, std::int32_t n) {
    return each([&](int i) { return vreinterpretq_f32_u32(vandq_u32(before(i, n), vreinterpretq_u32_f32(x.v[i]))); });
  }
  static float32x4_t load_four_bf16(const std::byte* from) {
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(reinterpret_cast<const std::uint16_t*>(from)), 16));
  }
  static f32x16 load_bf16(const std::byte* from) {
    return each([&](int i) { return load_four_bf16(from + 8 * i); });
  }
  static void store_int16(std::int16_t* out, f32x16 x) {
    for (int i = 0; i < 4; ++i) vst1_s16(out + 4 * i, vqmovn_s32(vcvtnq_s32_f32(x.v[i])));
  }
  static void store_pair(std::byte* out, int32x4_t even, float32x4_t odd) {
    const int32x4_t both = vsliq_n_s32(even, vcvtnq_s32_f32(odd), 16);
    vst1q_u8(reinterpret_cast<std::uint8_t*>(out), vreinterpretq_u8_s32(both));
  }
  /// 16 bits of `even` and 16 of `odd` by turns; store_high leaves what is there of `even`.
  static void store_pairs(std::byte* out, f32x16 even, f32x16 odd) {
    for (int i = 0; i < 4; ++i) store_pair(out + 16 * i, vcvtnq_s32_f32(even.v[i]), odd.v[i]);
  }
  static void store_high(std::byte* out, f32x16 odd) {
    for (int i = 0; i < 4; ++i) store_pair(out + 16 * i, load_ints(out + 16 * i), odd.v[i]);
  }
  /// x[2i], x[2i + 1] turned by the i-th angle, for 16 pairs.
  static void rotate_pairs(float* x, f32x16 cosines, f32x16 sines) {
    for (int i = 0; i < 4; ++i) {
      const float32x4x2_t v = vld2q_f32(x + 8 * i);
      const float32x4_t even = vnegq_f32(vmulq_f32(v.val[1], sines.v[i])), odd = vmulq_f32(v.val[0], sines.v[i]);
      vst2q_f32(x + 8 * i, {{vfmaq_f32(even, v.val[0], cosines.v[i]), vfmaq_f32(odd, v.val[1], cosines.v[i])}});
    }
  }

  // The rows of a unit
  using row_floats = float32x4_t;
  using row_ints = int32x4_t;
  static row_floats zero_rows() { return vdupq_n_f32(0.0f); }
  static row_floats set_rows(float x) { return vdupq_n_f32(x); }
  static row_floats load_rows(const float* x) { return vld1q_f32(x); }
  static void store_rows(float* out, row_floats x) { vst1q_f32(out, x); }
  static row_floats sub_rows(row_floats a, row_floats b) { return vsubq_f32(a, b); }
  static row_floats mul_rows(row_floats a, row_floats b) { return vmulq_f32(a, b); }
  static row_floats fma_rows(row_floats a, row_floats b, row_floats c) { return vfmaq_f32(c, a, b); }
  static row_floats negate_rows(row_floats x) { return vnegq_f32(x); }
  static row_ints set_ints(std::int32_t x) { return vdupq_n_s32(x); }
  static row_floats to_floats(row_ints x) { return vcvtq_f32_s32(x); }
  static row_floats load_half(const std::byte* from) { return load_four_f16(from); }
  static uint8x8_t load_four(const std::byte* from) {
    std::uint32_t word;
    __builtin_memcpy(&word, from, 4);
    return vreinterpret_u8_u32(vdup_n_u32(word));
  }
  /// Signed bytes.
  static row_floats load_numbers(const std::byte* from) {
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(load_four(from))))));
  }
  static uint32x4_t wide(uint8x8_t bytes) { return vmovl_u16(vget_low_u16(vmovl_u8(bytes))); }
  static void load_nibbles(const std::byte* from, row_floats& low, row_floats& high) {
    const uint32x4_t bytes = wide(load_four(from));
    low = vcvtq_f32_u32(vandq_u32(bytes, vdupq_n_u32(15)));
    high = vcvtq_f32_u32(vshrq_n_u32(bytes, 4));
  }
  /// 2^(byte - 128), also where that is subnormal.
  static row_floats load_exponents(const std::byte* from) {
    const uint32x4_t normal = vmaxq_u32(vshlq_n_u32(wide(load_four(from)), 23), vdupq_n_u32(0x00400000));
    return vmulq_f32(vreinterpretq_f32_u32(normal), vdupq_n_f32(0.5f));
  }
  static constexpr bool has_bf16_dots = false;
  static constexpr std::int64_t bf16_together = 1;
  /// The k-th of the columns whose numbers alternate at `from`: pairs of BF16, else one column.
  template <memory::dtype Type>
  static row_floats load_weights(const std::byte* from, int k) {
    if constexpr (Type == memory::dtype::f16) {
      return load_four_f16(from);
    } else if constexpr (Type == memory::dtype::bf16) {
      const uint32x4_t pairs = vreinterpretq_u32_s32(load_ints(from));
      return vreinterpretq_f32_u32(k == 0 ? vshlq_n_u32(pairs, 16) : vandq_u32(pairs, vdupq_n_u32(0xffff0000u)));
    } else {
      return vld1q_f32(reinterpret_cast<const float*>(from));
    }
  }

  // 16 bytes: 4 columns of 4 rows
  using row_bytes = uint8x16_t;
  static row_bytes four_columns(const std::int8_t* quants) {
    std::uint32_t word;
    __builtin_memcpy(&word, quants, 4);
    return vreinterpretq_u8_u32(vdupq_n_u32(word));
  }
  static void store_bytes(std::byte* to, row_bytes x) { vst1q_u8(reinterpret_cast<std::uint8_t*>(to), x); }
  static row_bytes load_bytes(const std::byte* from) { return vld1q_u8(reinterpret_cast<const std::uint8_t*>(from)); }
  /// x >> right (or << -right) & mask, in each byte
  static row_bytes bits(row_bytes x, int right, int mask) {
    return vandq_u8(vshlq_u8(x, vdupq_n_s8(static_cast<std::int8_t>(-right))),
                    vdupq_n_u8(static_cast<std::uint8_t>(mask)));
  }
  /// the same, or'ed to what there is
  static row_bytes with_bits(row_bytes have, row_bytes x, int right, int mask) {
    return vorrq_u8(have, bits(x, right, mask));
  }
  static row_bytes look_up(const std::uint8_t* table, row_bytes at) { return vqtbl1q_u8(vld1q_u8(table), at); }
  /// first * sums[0] + second * sums[1]
  static row_ints weighted_sum(const std::int16_t (&sums)[2], int first, int second) {
    return vdupq_n_s32(first * sums[0] + second * sums[1]);
  }

  // Sums of products u * q.
  using row_sums = int32x4_t;
  static row_sums sums_from(row_ints start) { return start; }
#if defined(TROUPE_NEON_I8MM)
  static constexpr bool signed_above_63 = false;
  template <int Largest, int Steps>
  static void add_products(row_sums& to, row_bytes u, row_bytes q, int) {
    to = vusdotq_s32(to, u, vreinterpretq_s8_u8(q));
  }

  // Two tokens at once: their sums over 4 rows are kept as two matrices, each of 2 rows by 2 tokens.
  static constexpr bool has_token_pairs = true;
  static void pair_sums(row_sums& a, row_sums& b) {
    const row_sums upper = vzip1q_s32(a, b);
    b = vzip2q_s32(a, b);
    a = upper;
  }
  static void part_sums(row_sums& a, row_sums& b) {
    const row_sums first = vuzp1q_s32(a, b);
    b = vuzp2q_s32(a, b);
    a = first;
  }
  /// From 4 columns of 4 rows, and the next 4: 8 columns of the upper two rows, and of the lower two.
  static void pair_columns(row_bytes& a, row_bytes& b) {
    const uint32x4_t left = vreinterpretq_u32_u8(a), right = vreinterpretq_u32_u8(b);
    a = vreinterpretq_u8_u32(vzip1q_u32(left, right));
    b = vreinterpretq_u8_u32(vzip2q_u32(left, right));
  }
  /// 8 columns of two tokens.
  static row_bytes eight_columns(const std::int8_t* first, const std::int8_t* second) {
    return vreinterpretq_u8_s8(vcombine_s8(vld1_s8(first), vld1_s8(second)));
  }
  static row_sums add_pair_products(row_sums to, row_bytes u, row_bytes q) {
    return vusmmlaq_s32(to, u, vreinterpretq_s8_u8(q));
  }
#else
  static constexpr bool has_token_pairs = false;
  // The dot product is of signed bytes: where u may reach 128, it takes u - 128 for u; the offset is gone, and with it
  // the start value.
  static constexpr bool signed_above_63 = true;
  template <int Largest, int Steps>
  static void add_products(row_sums& to, row_bytes u, row_bytes q, int) {
    const row_bytes weights = Largest > 63 ? veorq_u8(u, vdupq_n_u8(0x80)) : u;
    to = vdotq_s32(to, vreinterpretq_s8_u8(weights), vreinterpretq_s8_u8(q));
  }
#endif

  /// As the scalar kernel's, bit for bit.
  static void quantise_block(const float* x, std::int8_t* quants, activation_block& out) {
    const f32x16 a = load(x), b = load(x + 16);
    const f32x16 zero = add(sub(a, a), sub(b, b));  // NaN where a number is not finite
    const bool finite = sum(zero) == 0.0f;
    const float largest = finite ? max_of(max(magnitude(a), magnitude(b))) : 0.0f;
    float inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
    if (!(inverse <= 3.4028235e38f)) inverse = 0.0f;
    std::int32_t sums[2] = {};
    for (int half = 0; half < 2; ++half) {
      int8x8_t bytes[2];
      for (int i = 0; i < 2; ++i) {
        const float* at = x + 16 * half + 8 * i;
        const auto ints = [&](int from) {
          return finite ? vcvtnq_s32_f32(vmulq_f32(vld1q_f32(at + from), vdupq_n_f32(inverse))) : vdupq_n_s32(0);
        };
        bytes[i] = vmovn_s16(vcombine_s16(vmovn_s32(ints(0)), vmovn_s32(ints(4))));
        sums[half] += vaddlv_s8(bytes[i]);
      }
      vst1q_s8(quants + 16 * half, vcombine_s8(bytes[0], bytes[1]));
    }
    out = block_of(finite ? largest / 127.0f : __builtin_nanf(""), sums[0], sums[1]);
  }
};

}  // namespace
}  // namespace troupe::kernels
