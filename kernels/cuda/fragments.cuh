// Pieces of tensor-core products for few rows: mma.m16n8k16 with 16 weight rows as A and up to 8 tokens as B, and for
// each weight type how a lane loads its share and turns it into A operands. Knows no kernel. Layouts: weights.hpp.
#pragma once

#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include "kernels/cuda/device.hpp"
#include "kernels/cuda/fp8_pair.cuh"

namespace troupe::kernels::cuda {

__device__ inline void copy_16_async(void* to, const void* from) {
  asm volatile(
      "cp.async.cg.shared.global.L2::256B [%0], [%1], 16;" ::"r"(static_cast<unsigned>(__cvta_generic_to_shared(to))),
      "l"(from)
      : "memory");
}
__device__ inline void copy_8_async(void* to, const void* from) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(static_cast<unsigned>(__cvta_generic_to_shared(to))),
               "l"(from)
               : "memory");
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int Newest>
__device__ inline void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Newest) : "memory");
}

// d[16x8] += a[16x16] . b[16x8]; lane 4g+t has d rows g and g+8, columns 2t and 2t+1.
template <bool Half>
__device__ inline void mma(float (&d)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0,
                           unsigned b1) {
  if constexpr (Half) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  }
}

// Weight rows in eights (r8), columns in groups of F::columns.
struct weight_source {
  const std::uint8_t* data;
  const std::uint8_t* scales;
  long row_bytes;  // row-major types
  int groups;      // of F::columns a row
};

/// Units of 8 rows lie in eights: the 64 rows of one warp group's tile are contiguous for 128 columns.
__device__ inline long unit_at(const weight_source& w, int r8, int group) {
  return (static_cast<long>(r8 >> 3) * w.groups + group) * 8 + (r8 & 7);
}

/// One group: `columns` columns of 16 weight rows. A lane loads `quads` times 16 bytes of row g and of row g + 8,
/// `quad_step` apart; the next group's lie group_step on. x: of four blocks of 32 columns what the lane multiplies.
struct bf16_format {
  static constexpr bool half_x = false, byte_x = false, row_scale = false, fragment_order = false;
  static constexpr int columns = 64, quads = 2, scale_bytes = 0, sums = 0;
  static constexpr float upper_x = 1.0f;
  static constexpr int quad_step = 64, group_step = 128;
  static __device__ const std::uint8_t* at(const weight_source& w, int r8, int group, int lane) {
    return w.data + (r8 * 8L + (lane >> 2)) * w.row_bytes + group * group_step + (lane & 3) * 16;
  }
  template <bool Half = false>
  static __device__ void multiply(float (&acc)[4], const uint4 (&lo)[quads], const uint4 (&hi)[quads], uint4, uint4,
                                  const unsigned* x, const float*, int) {
#pragma unroll
    for (int q = 0; q < quads; ++q) {
      mma<Half>(acc, lo[q].x, hi[q].x, lo[q].y, hi[q].y, x[4 * q], x[4 * q + 1]);
      mma<Half>(acc, lo[q].z, hi[q].z, lo[q].w, hi[q].w, x[4 * q + 2], x[4 * q + 3]);
    }
  }
};

struct f16_format : bf16_format {
  static constexpr bool half_x = true;
  static __device__ void multiply(float (&acc)[4], const uint4 (&lo)[quads], const uint4 (&hi)[quads], uint4 a, uint4 b,
                                  const unsigned* x, const float* sums, int lane) {
    bf16_format::multiply<true>(acc, lo, hi, a, b, x, sums, lane);
  }
};

struct fp8_format {
  static constexpr bool half_x = true, byte_x = false, row_scale = true, fragment_order = true;
  static constexpr int columns = 128, quads = 2, scale_bytes = 0, sums = 0;
  static constexpr float upper_x = 1.0f;
  static constexpr int quad_step = 64, group_step = 128;
  static __device__ const std::uint8_t* at(const weight_source& w, int r8, int group, int lane) {
    return w.data + (r8 * 8L + (lane >> 2)) * w.row_bytes + group * group_step + (lane & 3) * 16;
  }
  static __device__ void four(float (&acc)[4], unsigned lo, unsigned hi, unsigned b0, unsigned b1) {
    mma<true>(acc, fp8_pair(lo), fp8_pair(hi), fp8_pair(lo >> 16), fp8_pair(hi >> 16), b0, b1);
  }
  static __device__ void multiply(float (&acc)[4], const uint4 (&lo)[quads], const uint4 (&hi)[quads], uint4, uint4,
                                  const unsigned* x, const float*, int) {
#pragma unroll
    for (int q = 0; q < quads; ++q) {
      four(acc, lo[q].x, hi[q].x, x[8 * q], x[8 * q + 1]);
      four(acc, lo[q].y, hi[q].y, x[8 * q + 2], x[8 * q + 3]);
      four(acc, lo[q].z, hi[q].z, x[8 * q + 4], x[8 * q + 5]);
      four(acc, lo[q].w, hi[q].w, x[8 * q + 6], x[8 * q + 7]);
    }
  }
};

// Types with a scale a block of 32: a block's two products start at what the integers' offset will add, negated
// (`sums`, for tokens 2t and 2t+1), so that the sum over (value + offset) * x comes out as that over value * x.
struct block_format {
  static constexpr bool half_x = true, byte_x = false, row_scale = false, fragment_order = true;
  static constexpr bool sums_by_half = false;
  static constexpr int columns = 128, scale_bytes = 8, sums = 1;
};
__device__ inline float2 halves(unsigned two) { return __half22float2(*reinterpret_cast<const __half2*>(&two)); }
__device__ inline void add_scaled(float (&acc)[4], const float (&part)[4], float lo, float hi) {
  acc[0] += lo * part[0];
  acc[1] += lo * part[1];
  acc[2] += hi * part[2];
  acc[3] += hi * part[3];
}

struct bytes_format : block_format {
  static constexpr int quads = 2;
  static constexpr float upper_x = 1.0f;
  static constexpr int quad_step = 512, group_step = 8 * 1024;
  static __device__ const std::uint8_t* at(const weight_source& w, int r8, int group, int lane) {
    return w.data + unit_at(w, r8, group) * 1024 + lane * 16;
  }
  /// 16 columns of a block: 0x6400 | u reads 1024 + u.
  static __device__ void half_block(float (&part)[4], unsigned lo, unsigned hi, const unsigned* x) {
    constexpr unsigned high = 0x64646464u;
    mma<true>(part, __byte_perm(lo, high, 0x4240), __byte_perm(hi, high, 0x4240), __byte_perm(lo, high, 0x4341),
              __byte_perm(hi, high, 0x4341), x[0], x[1]);
  }
};

struct q8_0_format : bytes_format {
  static constexpr float offset = 1152.0f, upper_offset = offset;  // u = value + 128
  static __device__ void block(float (&acc)[4], uint2 lo, uint2 hi, float d_lo, float d_hi, const unsigned* x,
                               float2 start) {
    float part[4] = {start.x, start.y, start.x, start.y};
    half_block(part, lo.x, hi.x, x);
    half_block(part, lo.y, hi.y, x + 2);
    add_scaled(acc, part, d_lo, d_hi);
  }
  static __device__ void multiply(float (&acc)[4], const uint4 (&lo)[quads], const uint4 (&hi)[quads], uint4 d_lo,
                                  uint4 d_hi, const unsigned* x, const float* sums, int lane) {
    const float2* start = reinterpret_cast<const float2*>(sums) + (lane & 3);
    const float2 l[2] = {halves(d_lo.x), halves(d_lo.y)}, h[2] = {halves(d_hi.x), halves(d_hi.y)};
#pragma unroll
    for (int q = 0; q < quads; ++q) {
      block(acc, {lo[q].x, lo[q].y}, {hi[q].x, hi[q].y}, l[q].x, h[q].x, x + 8 * q, start[8 * q]);
      block(acc, {lo[q].z, lo[q].w}, {hi[q].z, hi[q].w}, l[q].y, h[q].y, x + 8 * q + 4, start[8 * q + 4]);
    }
  }
};

// A scale for each half of a block; `sums` of a block: what either half starts at.
struct q8_16_format : bytes_format {
  static constexpr bool sums_by_half = true;
  static constexpr int scale_bytes = 16, sums = 2;
  static constexpr float offset = 1152.0f, upper_offset = offset;
  static __device__ void multiply(float (&acc)[4], const uint4 (&lo)[quads], const uint4 (&hi)[quads], uint4 d_lo,
                                  uint4 d_hi, const unsigned* x, const float* sums, int lane) {
    const float2* start = reinterpret_cast<const float2*>(sums) + (lane & 3);
    const unsigned l[8] = {lo[0].x, lo[0].y, lo[0].z, lo[0].w, lo[1].x, lo[1].y, lo[1].z, lo[1].w};
    const unsigned h[8] = {hi[0].x, hi[0].y, hi[0].z, hi[0].w, hi[1].x, hi[1].y, hi[1].z, hi[1].w};
    const unsigned sl[4] = {d_lo.x, d_lo.y, d_lo.z, d_lo.w}, sh[4] = {d_hi.x, d_hi.y, d_hi.z, d_hi.w};
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const float2 s = start[4 * i], a = halves(sl[i / 2]), c = halves(sh[i / 2]);
      float part[4] = {s.x, s.y, s.x, s.y};
      half_block(part, l[i], h[i], x + 2 * i);
      add_scaled(acc, part, i & 1 ? a.y : a.x, i & 1 ? c.y : c.x);
    }
  }
};

/// acc += m * sum of x, for both rows' m.
__device__ inline void add_offsets(float (&acc)[4], float lo, float hi, float2 plain) {
  acc[0] += lo * plain.x;
  acc[1] += lo * plain.y;
  acc[2] += hi * plain.x;
  acc[3] += hi * plain.y;
}

struct q8_1_format : bytes_format {
  static constexpr int scale_bytes = 16, sums = 2;
  static constexpr float offset = 1024.0f, upper_offset = offset;
  static __device__ void multiply(float (&acc)[4], const uint4 (&lo)[quads], const uint4 (&hi)[quads], uint4 d_lo,
                                  uint4 d_hi, const unsigned* x, const float* sums, int lane) {
    const float2* start = reinterpret_cast<const float2*>(sums) + (lane & 3);  // then the plain sums, 8 floats on
    const unsigned l[8] = {lo[0].x, lo[0].y, lo[0].z, lo[0].w, lo[1].x, lo[1].y, lo[1].z, lo[1].w};
    const unsigned h[8] = {hi[0].x, hi[0].y, hi[0].z, hi[0].w, hi[1].x, hi[1].y, hi[1].z, hi[1].w};
    const unsigned sl[4] = {d_lo.x, d_lo.y, d_lo.z, d_lo.w}, sh[4] = {d_hi.x, d_hi.y, d_hi.z, d_hi.w};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float2 s = start[8 * j], a = halves(sl[j]), c = halves(sh[j]);
      float part[4] = {s.x, s.y, s.x, s.y};
      half_block(part, l[2 * j], h[2 * j], x + 4 * j);
      half_block(part, l[2 * j + 1], h[2 * j + 1], x + 4 * j + 2);
      add_scaled(acc, part, a.x, c.x);
      add_offsets(acc, a.y, c.y, start[8 * j + 4]);
    }
  }
};

struct nibbles_format : block_format {
  static constexpr int quads = 1;
  static constexpr float upper_x = 0.0625f;  // upper nibbles are used where they lie, 16 times too large
  static constexpr int quad_step = 512, group_step = 8 * 512;
  static __device__ const std::uint8_t* at(const weight_source& w, int r8, int group, int lane) {
    return w.data + unit_at(w, r8, group) * 512 + lane * 16;
  }
  static __device__ void products(float (&part)[4], unsigned lo, unsigned hi, const unsigned* x) {
    constexpr unsigned low = 0x000f000fu, high = 0x00f000f0u, thousand = 0x64006400u;
    const unsigned lo8 = lo >> 8, hi8 = hi >> 8;
    mma<true>(part, (lo & low) | thousand, (hi & low) | thousand, (lo8 & low) | thousand, (hi8 & low) | thousand, x[0],
              x[1]);
    mma<true>(part, (lo & high) | thousand, (hi & high) | thousand, (lo8 & high) | thousand, (hi8 & high) | thousand,
              x[2], x[3]);
  }
};

// Four-bit integers meet x in bytes, with a scale a token and block of 32 (`sums`): exact integer sums, then two
// scales.
struct q4_0_format : nibbles_format {
  static constexpr bool half_x = false, byte_x = true;
  static constexpr float offset = 0.0f, upper_offset = 0.0f;
  /// x: of each block two words
  static __device__ void multiply(float (&acc)[4], const uint4 (&lo)[quads], const uint4 (&hi)[quads], uint4 d_lo,
                                  uint4 d_hi, const unsigned* x, const float* scales, int lane) {
    const float2* of_x = reinterpret_cast<const float2*>(scales) + (lane & 3);
    const unsigned l[4] = {lo[0].x, lo[0].y, lo[0].z, lo[0].w}, h[4] = {hi[0].x, hi[0].y, hi[0].z, hi[0].w};
    const float2 sl[2] = {halves(d_lo.x), halves(d_lo.y)}, sh[2] = {halves(d_hi.x), halves(d_hi.y)};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      // A signed nibble in the upper half of a byte is 16 times its value; x's scale takes that back. The sums start at
      // the bits of 1.5 * 2^23, where a float's step is 1: so they are floats without a conversion, which has a quarter
      // of the rate.
      constexpr unsigned upper = 0xf0f0f0f0u;
      constexpr float origin = 12582912.0f;
      static_assert(32 * 127 * 128 < 1 << 22);
      int c[4];
      asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%10,%10,%10};"
          : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
          : "r"(l[j] << 4 & upper), "r"(h[j] << 4 & upper), "r"(l[j] & upper), "r"(h[j] & upper), "r"(x[2 * j]),
            "r"(x[2 * j + 1]), "r"(__float_as_int(origin)));
      const float2 s = of_x[4 * j];
      const float a = j & 1 ? sl[j / 2].y : sl[j / 2].x, b = j & 1 ? sh[j / 2].y : sh[j / 2].x;
      acc[0] += a * s.x * (__int_as_float(c[0]) - origin);
      acc[1] += a * s.y * (__int_as_float(c[1]) - origin);
      acc[2] += b * s.x * (__int_as_float(c[2]) - origin);
      acc[3] += b * s.y * (__int_as_float(c[3]) - origin);
    }
  }
};

struct q4_1_format : nibbles_format {
  static constexpr int scale_bytes = 16, sums = 2;
  static constexpr float offset = 1024.0f, upper_offset = 1024.0f;
  static __device__ void multiply(float (&acc)[4], const uint4 (&lo)[quads], const uint4 (&hi)[quads], uint4 d_lo,
                                  uint4 d_hi, const unsigned* x, const float* sums, int lane) {
    const float2* start = reinterpret_cast<const float2*>(sums) + (lane & 3);  // then the plain sums, 8 floats on
    const unsigned l[4] = {lo[0].x, lo[0].y, lo[0].z, lo[0].w}, h[4] = {hi[0].x, hi[0].y, hi[0].z, hi[0].w};
    const unsigned sl[4] = {d_lo.x, d_lo.y, d_lo.z, d_lo.w}, sh[4] = {d_hi.x, d_hi.y, d_hi.z, d_hi.w};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float2 s = start[8 * j], plain = start[8 * j + 4];
      float part[4] = {s.x, s.y, s.x, s.y};
      products(part, l[j], h[j], x + 4 * j);
      const float2 a = halves(sl[j]), c = halves(sh[j]);
      add_scaled(acc, part, a.x, c.x);
      add_offsets(acc, a.y, c.y, plain);
    }
  }
};

}  // namespace troupe::kernels::cuda
