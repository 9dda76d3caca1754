// wgmma as attention needs it (sm_90a): both operands in shared memory, or A in registers and B with its rows along N.
// Thin wrappers; what they mean is in the PTX ISA, section wgmma. Device code only; knows no op.
#pragma once

#include <cstdint>

#include "kernels/cuda/warp_tiles.hpp"

namespace troupe::kernels::cuda {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

template <int Count>
__device__ inline void raise_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Count));
}
template <int Count>
__device__ inline void lower_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Count));
}

__device__ inline void group_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void group_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int Pending>
__device__ inline void group_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
}
/// Keeps the compiler from moving uses of an accumulator across this point.
template <int N>
__device__ inline void hold(float (&d)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

/// Operand of rows of 128 bytes in the 128-byte swizzle, eight rows every 1,024 bytes. `stride` is the distance of the
/// next 64 columns where they are the operand's N, else without meaning.
__device__ inline std::uint64_t operand(std::uint32_t address, std::uint32_t stride = 16) {
  return static_cast<std::uint64_t>((address & 0x3ffff) >> 4) | static_cast<std::uint64_t>(stride >> 4) << 16 |
         64ull << 32 | 1ull << 62;
}

#define TROUPE_D4(d, i) "+f"((d)[i]), "+f"((d)[(i) + 1]), "+f"((d)[(i) + 2]), "+f"((d)[(i) + 3])
#define TROUPE_D16(d, i) TROUPE_D4(d, i), TROUPE_D4(d, (i) + 4), TROUPE_D4(d, (i) + 8), TROUPE_D4(d, (i) + 12)

/// d[64 x N] (+)= a[64 x 16] . b[N x 16]^T
template <int N>
__device__ inline void group_multiply(float (&d)[N / 2], std::uint64_t a, std::uint64_t b, bool add) {
  static_assert(N == 64 || N == 128);
  if constexpr (N == 64) {
    asm volatile(
        "{.reg .pred on; setp.ne.u32 on, %34,"
        " 0; wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,"
        "%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, %32, %33, on,"
        " 1, 1, 0, 0;}"
        : TROUPE_D16(d, 0), TROUPE_D16(d, 16)
        : "l"(a), "l"(b), "r"(add ? 1 : 0));
  } else {
    asm volatile(
        "{.reg .pred on; setp.ne.u32 on, %66,"
        " 0; wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,"
        "%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,"
        "%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,"
        "%59,%60,%61,%62,%63}, %64, %65, on, 1, 1, 0, 0;}"
        : TROUPE_D16(d, 0), TROUPE_D16(d, 16), TROUPE_D16(d, 32), TROUPE_D16(d, 48)
        : "l"(a), "l"(b), "r"(add ? 1 : 0));
  }
}

/// d[64 x N] += a[64 x 16] . b[16 x N]; a as four registers a lane, as of mma m16n8k16
template <int N>
__device__ inline void group_multiply(float (&d)[N / 2], const std::uint32_t (&a)[4], std::uint64_t b) {
  static_assert(N == 64 || N == 128);
  if constexpr (N == 64) {
    asm volatile(
        "{.reg .pred on; setp.ne.u32 on, %37,"
        " 0; wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,"
        "%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, {%32,%33,%34,"
        "%35}, %36, on, 1, 1, 1;}"
        : TROUPE_D16(d, 0), TROUPE_D16(d, 16)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(1));
  } else {
    asm volatile(
        "{.reg .pred on; setp.ne.u32 on, %69,"
        " 0; wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,"
        "%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,"
        "%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,"
        "%59,%60,%61,%62,%63}, {%64,%65,%66,%67}, %68, on, 1, 1, 1;}"
        : TROUPE_D16(d, 0), TROUPE_D16(d, 16), TROUPE_D16(d, 32), TROUPE_D16(d, 48)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(1));
  }
}

#undef TROUPE_D16
#undef TROUPE_D4

#endif

}  // namespace troupe::kernels::cuda
