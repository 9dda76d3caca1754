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

/// (128 + q) - offset is exact, so only the product with d rounds.
__device__ inline unsigned scaled(unsigned raised, __nv_bfloat162 offset, __nv_bfloat162 d) {
  return as_word(__hmul2(__hadd2(as_bf16(raised), offset), d));
}

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
    const __nv_bfloat162 dl = scale(d_lo, b), dh = scale(d_hi, b), offset = as_bf16(0xc308c308u);  // -136
    first[0] = scaled(raised(l, 0), offset, dl);
    first[1] = scaled(raised(h, 0), offset, dh);
    first[2] = scaled(raised(l, 8), offset, dl);
    first[3] = scaled(raised(h, 8), offset, dh);
    second[0] = scaled(raised(l, 4), offset, dl);
    second[1] = scaled(raised(h, 4), offset, dh);
    second[2] = scaled(raised(l, 12), offset, dl);
    second[3] = scaled(raised(h, 12), offset, dh);
  }
  static __device__ __nv_bfloat162 scale(const uint4& d, int b) {
    const unsigned two = b < 2 ? d.x : d.y;
    const __half2 h = *reinterpret_cast<const __half2*>(&two);
    return __float2bfloat162_rn((b & 1) ? __high2float(h) : __low2float(h));
  }
};

struct q4_1 : nibbles {
  static __device__ unsigned raised(unsigned word, int shift) { return (word >> shift & wanted) | 0x43004300u; }
  static constexpr int scale_bytes = 16;
  static __device__ unsigned value(unsigned raised, __nv_bfloat162 d, __nv_bfloat162 m) {
    return as_word(__hfma2(__hadd2(as_bf16(raised), as_bf16(0xc300c300u)), d, m));  // -128
  }
  static __device__ void operands(const uint4* lo, const uint4* hi, const uint4& d_lo, const uint4& d_hi, int b,
                                  unsigned (&first)[4], unsigned (&second)[4]) {
    const unsigned l = (&lo->x)[b], h = (&hi->x)[b], sl = (&d_lo.x)[b], sh = (&d_hi.x)[b];
    const float2 fl = __half22float2(*reinterpret_cast<const __half2*>(&sl));
    const float2 fh = __half22float2(*reinterpret_cast<const __half2*>(&sh));
    const __nv_bfloat162 dl = __float2bfloat162_rn(fl.x), ml = __float2bfloat162_rn(fl.y);
    const __nv_bfloat162 dh = __float2bfloat162_rn(fh.x), mh = __float2bfloat162_rn(fh.y);
    first[0] = value(raised(l, 0), dl, ml);
    first[1] = value(raised(h, 0), dh, mh);
    first[2] = value(raised(l, 8), dl, ml);
    first[3] = value(raised(h, 8), dh, mh);
    second[0] = value(raised(l, 4), dl, ml);
    second[1] = value(raised(h, 4), dh, mh);
    second[2] = value(raised(l, 12), dl, ml);
    second[3] = value(raised(h, 12), dh, mh);
  }
};

struct q8_0 : units_of_8 {
  static constexpr int chunk_bytes = 8 * 1024, scale_bytes = 8, quads = 2, quad_bytes = 512;
  /// u = value + 128: the low 7 bits read 128 + them, the top bit turns into -128 or -256; the sum is exact.
  static __device__ unsigned value(unsigned word, int shift, __nv_bfloat162 d) {
    const unsigned w = word >> shift;
    return scaled((w & 0x007f007fu) | 0x43004300u, as_bf16((~w & 0x00800080u) | 0xc300c300u), d);
  }
  static __device__ void operands(const uint4* lo, const uint4* hi, const uint4& d_lo, const uint4& d_hi, int b,
                                  unsigned (&first)[4], unsigned (&second)[4]) {
    const unsigned* l = &lo[b >> 1].x + (b & 1) * 2;
    const unsigned* h = &hi[b >> 1].x + (b & 1) * 2;
    const __nv_bfloat162 dl = q4_0::scale(d_lo, b), dh = q4_0::scale(d_hi, b);
    first[0] = value(l[0], 0, dl);
    first[1] = value(h[0], 0, dh);
    first[2] = value(l[0], 8, dl);
    first[3] = value(h[0], 8, dh);
    second[0] = value(l[1], 0, dl);
    second[1] = value(h[1], 0, dh);
    second[2] = value(l[1], 8, dl);
    second[3] = value(h[1], 8, dh);
  }
};

}  // namespace wide

}  // namespace troupe::kernels::cuda
