// Pieces of tensor-core products for few rows: mma.m16n8k16 with 16 weight rows as A and up to 8 tokens as B, and for
// each weight type how a lane loads its share and turns it into A operands. Knows no kernel. Layouts: weights.hpp.
#pragma once

#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include "kernels/cuda/device.hpp"

namespace troupe::kernels::cuda {

__device__ inline void copy_16_async(void* to, const void* from) {
  asm volatile("cp.async.cg.shared.global.L2::256B [%0], [%1], 16;" ::"r"(
                   static_cast<unsigned>(__cvta_generic_to_shared(to))), "l"(from) : "memory");
}
__device__ inline void copy_8_async(void* to, const void* from) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(
                   static_cast<unsigned>(__cvta_generic_to_shared(to))), "l"(from) : "memory");
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int Newest>
__device__ inline void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Newest) : "memory");
}

// d[16x8] += a[16x16] . b[16x8]; lane 4g+t has d rows g and g+8, columns 2t and 2t+1.
template <bool Half>
__device__ inline void mma(float (&d)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1) {
  if constexpr (Half) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  } else {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  }
}

__device__ inline unsigned fp8_pair(unsigned two) {  // exact: every e4m3 is an f16
  unsigned out;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(out) : "h"(static_cast<unsigned short>(two)));
  return out;
}

// Where a lane finds its share of unit row r8 (8 rows), group `group` of F::columns columns.
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

struct bf16_format {
  static constexpr bool half_x = false, row_scale = false, fragment_order = false;
  static constexpr int columns = 32, quads = 1, scale_bytes = 0, sums = 0;
  static constexpr float upper_x = 1.0f;
  static __device__ const std::uint8_t* at(const weight_source& w, int r8, int group, int lane) {
    return w.data + (r8 * 8L + (lane >> 2)) * w.row_bytes + group * 64 + (lane & 3) * 16;
  }
  static constexpr int quad_step = 64, group_step = 64;
  /// x of this lane's token at the group's first column
  static __device__ void multiply(float (&acc)[4], const uint4* lo, const uint4* hi, const char*, const char*,
                                  const std::uint8_t* x, const float*, int lane) {
    const uint4 b = *reinterpret_cast<const uint4*>(x + (lane & 3) * 16);
    mma<half_x>(acc, lo->x, hi->x, lo->y, hi->y, b.x, b.y);
    mma<half_x>(acc, lo->z, hi->z, lo->w, hi->w, b.z, b.w);
  }
};

struct f16_format : bf16_format {
  static constexpr bool half_x = true;
  static __device__ void multiply(float (&acc)[4], const uint4* lo, const uint4* hi, const char*, const char*,
                                  const std::uint8_t* x, const float*, int lane) {
    const uint4 b = *reinterpret_cast<const uint4*>(x + (lane & 3) * 16);
    mma<half_x>(acc, lo->x, hi->x, lo->y, hi->y, b.x, b.y);
    mma<half_x>(acc, lo->z, hi->z, lo->w, hi->w, b.z, b.w);
  }
};

struct fp8_format {
  static constexpr bool half_x = true, row_scale = true, fragment_order = true;
  static constexpr int columns = 64, quads = 1, scale_bytes = 0, sums = 0;
  static constexpr float upper_x = 1.0f;
  static constexpr int quad_step = 64, group_step = 64;
  static __device__ const std::uint8_t* at(const weight_source& w, int r8, int group, int lane) {
    return w.data + (r8 * 8L + (lane >> 2)) * w.row_bytes + group * 64 + (lane & 3) * 16;
  }
  static __device__ void four(float (&acc)[4], unsigned lo, unsigned hi, unsigned b0, unsigned b1) {
    mma<half_x>(acc, fp8_pair(lo), fp8_pair(hi), fp8_pair(lo >> 16), fp8_pair(hi >> 16), b0, b1);
  }
  static __device__ void multiply(float (&acc)[4], const uint4* lo, const uint4* hi, const char*, const char*,
                                  const std::uint8_t* x, const float*, int lane) {
    const uint4* b = reinterpret_cast<const uint4*>(x) + (lane & 3);
    const uint4 b0 = b[0], b1 = b[4];
    four(acc, lo->x, hi->x, b0.x, b0.y);
    four(acc, lo->y, hi->y, b0.z, b0.w);
    four(acc, lo->z, hi->z, b1.x, b1.y);
    four(acc, lo->w, hi->w, b1.z, b1.w);
  }
};

// Types with a scale a block of 32: a block's two products start at what the integers' offset will add, negated
// (`sums`, for tokens 2t and 2t+1), so that the sum over (value + offset) * x comes out as that over value * x.
struct block_format {
  static constexpr bool half_x = true, row_scale = false, fragment_order = true;
  static constexpr int columns = 128, scale_bytes = 8, sums = 1;
};
__device__ inline float scale_of(const __half2* d, int block) {
  const __half2 two = d[block >> 1];
  return (block & 1) ? __high2float(two) : __low2float(two);
}

struct q8_0_format : block_format {
  static constexpr int quads = 2;
  static constexpr float upper_x = 1.0f, offset = 1152.0f, upper_offset = offset;  // 0x6400 | u reads 1024 + u, u = value + 128
  static constexpr int quad_step = 512, group_step = 8 * 1024;
  static __device__ const std::uint8_t* at(const weight_source& w, int r8, int group, int lane) {
    return w.data + unit_at(w, r8, group) * 1024 + lane * 16;
  }
  static __device__ void block(float (&acc)[4], uint2 lo, uint2 hi, float d_lo, float d_hi, uint4 b, float2 start) {
    float part[4] = {start.x, start.y, start.x, start.y};
    constexpr unsigned high = 0x64646464u;
    mma<true>(part, __byte_perm(lo.x, high, 0x4240), __byte_perm(hi.x, high, 0x4240), __byte_perm(lo.x, high, 0x4341),
              __byte_perm(hi.x, high, 0x4341), b.x, b.y);
    mma<true>(part, __byte_perm(lo.y, high, 0x4240), __byte_perm(hi.y, high, 0x4240), __byte_perm(lo.y, high, 0x4341),
              __byte_perm(hi.y, high, 0x4341), b.z, b.w);
    acc[0] += d_lo * part[0];
    acc[1] += d_lo * part[1];
    acc[2] += d_hi * part[2];
    acc[3] += d_hi * part[3];
  }
  static __device__ void multiply(float (&acc)[4], const uint4* lo, const uint4* hi, const char* d_lo, const char* d_hi,
                                  const std::uint8_t* x, const float* sums, int lane) {
    const uint4* b = reinterpret_cast<const uint4*>(x) + (lane & 3);
    const float2* start = reinterpret_cast<const float2*>(sums) + (lane & 3);
    const __half2* dl = reinterpret_cast<const __half2*>(d_lo);
    const __half2* dh = reinterpret_cast<const __half2*>(d_hi);
#pragma unroll
    for (int q = 0; q < 2; ++q) {
      block(acc, {lo[q].x, lo[q].y}, {hi[q].x, hi[q].y}, __low2float(dl[q]), __low2float(dh[q]), b[8 * q],
            start[8 * q]);
      block(acc, {lo[q].z, lo[q].w}, {hi[q].z, hi[q].w}, __high2float(dl[q]), __high2float(dh[q]), b[8 * q + 4],
            start[8 * q + 4]);
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
  static __device__ void products(float (&part)[4], unsigned lo, unsigned hi, uint4 b) {
    constexpr unsigned low = 0x000f000fu, high = 0x00f000f0u, thousand = 0x64006400u;
    const unsigned lo8 = lo >> 8, hi8 = hi >> 8;
    mma<true>(part, (lo & low) | thousand, (hi & low) | thousand, (lo8 & low) | thousand, (hi8 & low) | thousand, b.x,
              b.y);
    mma<true>(part, (lo & high) | thousand, (hi & high) | thousand, (lo8 & high) | thousand, (hi8 & high) | thousand,
              b.z, b.w);
  }
};

struct q4_0_format : nibbles_format {
  static constexpr float offset = 1032.0f, upper_offset = 1152.0f;
  static __device__ void multiply(float (&acc)[4], const uint4* lo, const uint4* hi, const char* d_lo, const char* d_hi,
                                  const std::uint8_t* x, const float* sums, int lane) {
    const uint4* b = reinterpret_cast<const uint4*>(x) + (lane & 3);
    const float2* start = reinterpret_cast<const float2*>(sums) + (lane & 3);
    const __half2* dl = reinterpret_cast<const __half2*>(d_lo);
    const __half2* dh = reinterpret_cast<const __half2*>(d_hi);
    const unsigned l[4] = {lo->x, lo->y, lo->z, lo->w}, h[4] = {hi->x, hi->y, hi->z, hi->w};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float2 s = start[4 * j];
      float part[4] = {s.x, s.y, s.x, s.y};
      products(part, l[j], h[j], b[4 * j]);
      const float a = scale_of(dl, j), c = scale_of(dh, j);
      acc[0] += a * part[0];
      acc[1] += a * part[1];
      acc[2] += c * part[2];
      acc[3] += c * part[3];
    }
  }
};

struct q4_1_format : nibbles_format {
  static constexpr int scale_bytes = 16, sums = 2;
  static constexpr float offset = 1024.0f, upper_offset = 1024.0f;
  static __device__ void multiply(float (&acc)[4], const uint4* lo, const uint4* hi, const char* d_lo, const char* d_hi,
                                  const std::uint8_t* x, const float* sums, int lane) {
    const uint4* b = reinterpret_cast<const uint4*>(x) + (lane & 3);
    const float2* start = reinterpret_cast<const float2*>(sums) + (lane & 3);  // then the plain sums, 8 floats on
    const __half2* dl = reinterpret_cast<const __half2*>(d_lo);
    const __half2* dh = reinterpret_cast<const __half2*>(d_hi);
    const unsigned l[4] = {lo->x, lo->y, lo->z, lo->w}, h[4] = {hi->x, hi->y, hi->z, hi->w};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float2 s = start[8 * j], plain = start[8 * j + 4];
      float part[4] = {s.x, s.y, s.x, s.y};
      products(part, l[j], h[j], b[4 * j]);
      const float2 a = __half22float2(dl[j]), c = __half22float2(dh[j]);
      acc[0] += a.x * part[0] + a.y * plain.x;
      acc[1] += a.x * part[1] + a.y * plain.y;
      acc[2] += c.x * part[2] + c.y * plain.x;
      acc[3] += c.x * part[3] + c.y * plain.y;
    }
  }
};

}  // namespace troupe::kernels::cuda
