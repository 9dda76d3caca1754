// How tiles of 64 weight rows lie in shared memory for wgmma, and how a lane turns its share into A operands in bf16.
// Knows no kernel. Layouts of the weights: weights.hpp.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace troupe::kernels::cuda {

namespace wide {

__device__ inline __nv_bfloat162 as_bf16(unsigned v) { return *reinterpret_cast<const __nv_bfloat162*>(&v); }
__device__ inline unsigned as_word(__nv_bfloat162 v) { return *reinterpret_cast<const unsigned*>(&v); }

/// A block's scale as the sum of two bf16, which holds every f16. Rounded to one, it would move all of a block's
/// weights one way: enough to move a long sum of many layers by several times what the roundings of single weights do.
struct split_scale {
  __nv_bfloat162 high, low;
  __device__ explicit split_scale(float d)
      : high(__float2bfloat162_rn(d)), low(__float2bfloat162_rn(d - __low2float(high))) {}
};

/// (128 + q) - offset is exact, so only the weight itself rounds (the lower part's rounding is far below that one).
__device__ inline unsigned scaled(unsigned raised, __nv_bfloat162 offset, const split_scale& d) {
  const __nv_bfloat162 q = __hadd2(as_bf16(raised), offset);
  return as_word(__hfma2(q, d.high, __hmul2(q, d.low)));
}
/// The same and m.
__device__ inline unsigned scaled(unsigned raised, __nv_bfloat162 offset, const split_scale& d, __nv_bfloat162 m) {
  const __nv_bfloat162 q = __hadd2(as_bf16(raised), offset);
  return as_word(__hfma2(q, d.high, __hfma2(q, d.low, m)));
}

__device__ inline float2 as_floats(unsigned two) { return __half22float2(*reinterpret_cast<const __half2*>(&two)); }

/// One stage's tile of 64 rows: `columns` columns in chunk_bytes, then scale_chunk_bytes.
/// Rows of 128 bytes by tensor map, swizzled: operands as they are.
struct bf16_rows {
  static constexpr bool in_place = true, bytes = false;
  static constexpr int columns = 64, chunk_bytes = 64 * 128, scale_bytes = 0;
};
struct fp8_rows {
  static constexpr bool in_place = true, bytes = true;  // x too
  static constexpr int columns = 128, chunk_bytes = 64 * 128, scale_bytes = 0;
};

/// Packed: units of 8 rows; a lane's rows are g and g + 8.
struct units_of_8 {
  static constexpr bool in_place = false, bytes = false;
  static constexpr int columns = 128;
};

struct nibbles : units_of_8 {
  static constexpr int chunk_bytes = 8 * 512, quads = 1, quad_bytes = 0;
  static constexpr unsigned wanted = 0x000f000fu;
};

struct q4_0 : nibbles {
  /// 128 + 8 + the signed nibble
  static __device__ unsigned raised(unsigned word, int shift) { return (word >> shift & wanted) ^ 0x43084308u; }
  static constexpr int scale_bytes = 8;  // of a row's four blocks
  /// Blocks of 32 columns: block b of the lane's rows g (lo) and g + 8 (hi), as two steps of 16 columns.
  static __device__ void operands(const uint4* lo, const uint4* hi, const uint4& d_lo, const uint4& d_hi, int b,
                                  unsigned (&first)[4], unsigned (&second)[4]) {
    const unsigned l = (&lo->x)[b], h = (&hi->x)[b];
    const split_scale dl = scale(d_lo, b), dh = scale(d_hi, b);
    const __nv_bfloat162 offset = as_bf16(0xc308c308u);  // -136
    first[0] = scaled(raised(l, 0), offset, dl);
    first[1] = scaled(raised(h, 0), offset, dh);
    first[2] = scaled(raised(l, 8), offset, dl);
    first[3] = scaled(raised(h, 8), offset, dh);
    second[0] = scaled(raised(l, 4), offset, dl);
    second[1] = scaled(raised(h, 4), offset, dh);
    second[2] = scaled(raised(l, 12), offset, dl);
    second[3] = scaled(raised(h, 12), offset, dh);
  }
  static __device__ split_scale scale(const uint4& d, int b) {
    const float2 two = as_floats(b < 2 ? d.x : d.y);
    return split_scale((b & 1) ? two.y : two.x);
  }
};

struct q4_1 : nibbles {
  static __device__ unsigned raised(unsigned word, int shift) { return (word >> shift & wanted) | 0x43004300u; }
  static constexpr int scale_bytes = 16;
  static __device__ void operands(const uint4* lo, const uint4* hi, const uint4& d_lo, const uint4& d_hi, int b,
                                  unsigned (&first)[4], unsigned (&second)[4]) {
    const unsigned l = (&lo->x)[b], h = (&hi->x)[b];
    const float2 fl = as_floats((&d_lo.x)[b]), fh = as_floats((&d_hi.x)[b]);
    // Integers less 8, so that they and m do not nearly cancel after both have been rounded.
    const split_scale dl(fl.x), dh(fh.x);
    const __nv_bfloat162 ml = __float2bfloat162_rn(fl.y + 8.0f * fl.x), mh = __float2bfloat162_rn(fh.y + 8.0f * fh.x);
    const __nv_bfloat162 offset = as_bf16(0xc308c308u);  // -136
    first[0] = scaled(raised(l, 0), offset, dl, ml);
    first[1] = scaled(raised(h, 0), offset, dh, mh);
    first[2] = scaled(raised(l, 8), offset, dl, ml);
    first[3] = scaled(raised(h, 8), offset, dh, mh);
    second[0] = scaled(raised(l, 4), offset, dl, ml);
    second[1] = scaled(raised(h, 4), offset, dh, mh);
    second[2] = scaled(raised(l, 12), offset, dl, ml);
    second[3] = scaled(raised(h, 12), offset, dh, mh);
  }
};

struct byte_units : units_of_8 {
  static constexpr int chunk_bytes = 8 * 1024, quads = 2, quad_bytes = 512;
  /// Of block b the words of its two steps.
  static __device__ const unsigned* words(const uint4* of, int b) { return &of[b >> 1].x + (b & 1) * 2; }
};

struct q8_0 : byte_units {
  static constexpr int scale_bytes = 8;
  /// u = value + 128: the low 7 bits read 128 + them, the top bit turns into -128 or -256; the sum is exact.
  static __device__ unsigned value(unsigned word, int shift, const split_scale& d) {
    const unsigned w = word >> shift;
    return scaled((w & 0x007f007fu) | 0x43004300u, as_bf16((~w & 0x00800080u) | 0xc300c300u), d);
  }
  static __device__ void step(unsigned l, unsigned h, const split_scale& dl, const split_scale& dh,
                              unsigned (&out)[4]) {
    out[0] = value(l, 0, dl);
    out[1] = value(h, 0, dh);
    out[2] = value(l, 8, dl);
    out[3] = value(h, 8, dh);
  }
  static __device__ void operands(const uint4* lo, const uint4* hi, const uint4& d_lo, const uint4& d_hi, int b,
                                  unsigned (&first)[4], unsigned (&second)[4]) {
    const unsigned *l = words(lo, b), *h = words(hi, b);
    const split_scale dl = q4_0::scale(d_lo, b), dh = q4_0::scale(d_hi, b);
    step(l[0], h[0], dl, dh, first);
    step(l[1], h[1], dl, dh, second);
  }
};

struct q8_16 : byte_units {
  static constexpr int scale_bytes = 16;
  static __device__ void operands(const uint4* lo, const uint4* hi, const uint4& d_lo, const uint4& d_hi, int b,
                                  unsigned (&first)[4], unsigned (&second)[4]) {
    const unsigned *l = words(lo, b), *h = words(hi, b);
    const float2 fl = as_floats((&d_lo.x)[b]), fh = as_floats((&d_hi.x)[b]);
    q8_0::step(l[0], h[0], split_scale(fl.x), split_scale(fh.x), first);
    q8_0::step(l[1], h[1], split_scale(fl.y), split_scale(fh.y), second);
  }
};

/// Bytes below 128, as files of five bits have them; less 16 as in q4_1.
struct q8_1 : byte_units {
  static constexpr int scale_bytes = 16;
  static __device__ unsigned raised(unsigned word, int shift) { return (word >> shift & 0x007f007fu) | 0x43004300u; }
  static __device__ void operands(const uint4* lo, const uint4* hi, const uint4& d_lo, const uint4& d_hi, int b,
                                  unsigned (&first)[4], unsigned (&second)[4]) {
    const unsigned *l = words(lo, b), *h = words(hi, b);
    const float2 fl = as_floats((&d_lo.x)[b]), fh = as_floats((&d_hi.x)[b]);
    const split_scale dl(fl.x), dh(fh.x);
    const __nv_bfloat162 ml = __float2bfloat162_rn(fl.y + 16.0f * fl.x), mh = __float2bfloat162_rn(fh.y + 16.0f * fh.x);
    const __nv_bfloat162 offset = as_bf16(0xc310c310u);  // -144
#pragma unroll
    for (int step = 0; step < 2; ++step) {
      unsigned(&out)[4] = step ? second : first;
      out[0] = scaled(raised(l[step], 0), offset, dl, ml);
      out[1] = scaled(raised(h[step], 0), offset, dh, mh);
      out[2] = scaled(raised(l[step], 8), offset, dl, ml);
      out[3] = scaled(raised(h[step], 8), offset, dh, mh);
    }
  }
};

}  // namespace wide

}  // namespace troupe::kernels::cuda
