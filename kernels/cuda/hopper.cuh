// Hopper's own instructions (sm_90a): transaction barriers, bulk copies, tensor-map copies, wgmma with A in registers.
// Thin wrappers; what they mean is in the PTX ISA, sections mbarrier, cp.async.bulk and wgmma.
#pragma once

#include <cuda.h>

#include <cstdint>

namespace troupe::kernels::cuda::hopper {

__device__ inline unsigned shared_address(const void* p) { return static_cast<unsigned>(__cvta_generic_to_shared(p)); }

__device__ inline void barrier_init(std::uint64_t* b, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(b)), "r"(arrivals) : "memory");
}
__device__ inline void barrier_expect(std::uint64_t* b, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(b)), "r"(bytes)
               : "memory");
}
__device__ inline void barrier_arrive(std::uint64_t* b) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(b)) : "memory");
}
__device__ inline void barrier_wait(std::uint64_t* b, unsigned parity) {
  asm volatile(
      "{\n.reg .pred done;\nagain:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra out;\nbra again;\nout:\n}" ::"r"(shared_address(b)),
      "r"(parity)
      : "memory");
}
__device__ inline void barriers_ready() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

__device__ inline void copy_bulk(void* to, const void* from, int bytes, std::uint64_t* done) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   shared_address(to)),
               "l"(from), "r"(bytes), "r"(shared_address(done))
               : "memory");
}
__device__ inline void copy_tile(void* to, const CUtensorMap* map, int inner, int outer, std::uint64_t* done) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::
          "r"(shared_address(to)),
      "l"(map), "r"(inner), "r"(outer), "r"(shared_address(done))
      : "memory");
}

/// A map whose first copy comes later.
__device__ inline void prefetch_map(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

template <int Count>
__device__ inline void more_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Count));
}
template <int Count>
__device__ inline void fewer_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Count));
}

__device__ inline unsigned cluster_rank() {
  unsigned rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
/// All threads of all blocks of the cluster have come, in two halves; nothing else is to be seen. What a thread wrote
/// may be under way still: `.release` waits for it, a thousand cycles and more, even where there is nothing.
__device__ inline void cluster_arrive() { asm volatile("barrier.cluster.arrive.relaxed;" ::: "memory"); }
__device__ inline void cluster_wait() { asm volatile("barrier.cluster.wait;" ::: "memory"); }
__device__ inline void cluster_meet() {
  cluster_arrive();
  cluster_wait();
}
/// Where `address` of this block's shared memory lies in that of the cluster's block `rank`.
__device__ inline unsigned in_block(unsigned address, unsigned rank) {
  unsigned there;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
  return there;
}
/// To any block's shared memory, at an address as in_block gives it; its barrier `done`, too, counts the 16 bytes.
__device__ inline void store_cluster(unsigned address, float4 v, unsigned done) {
  asm volatile(
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(address),
      "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w), "r"(done)
      : "memory");
}

/// One warp has written something that the 128 threads of the first group read: barrier 2.
__device__ inline void factors_there() { asm volatile("bar.arrive 2, 160;" ::: "memory"); }
__device__ inline void factors_awaited() { asm volatile("bar.sync 2, 160;" ::: "memory"); }
__device__ inline void group_sync(int id) { asm volatile("bar.sync %0, 128;" ::"r"(id) : "memory"); }

/// K-major operand in shared memory, rows of 128 bytes, 128-byte swizzle; the address is of a panel (1024-byte aligned)
/// plus 32 bytes a step of 16 columns. Its place is what of it changes: 2 more a step, 1 more for 16 bytes.
__device__ inline unsigned operand_place(unsigned address) { return (address & 0x3ffff) >> 4 | 1u << 16; }
__device__ inline std::uint64_t operand(unsigned place) { return place | (64ull << 32) | (1ull << 62); }
__device__ inline std::uint64_t operand_at(unsigned address) { return operand(operand_place(address)); }

__device__ inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int Newest>
__device__ inline void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Newest) : "memory");
}

#define TROUPE_D4(i) "+f"(d[i]), "+f"(d[(i) + 1]), "+f"(d[(i) + 2]), "+f"(d[(i) + 3])
#define TROUPE_D8(i) TROUPE_D4(i), TROUPE_D4((i) + 4)
#define TROUPE_D16(i) TROUPE_D8(i), TROUPE_D8((i) + 8)
#define TROUPE_D32(i) TROUPE_D16(i), TROUPE_D16((i) + 16)
// The sums of m64nNk16 (k32 for bytes) as register lists, and the instruction around them.
#define TROUPE_R8 "%0,%1,%2,%3,%4,%5,%6,%7"
#define TROUPE_R16 TROUPE_R8 ",%8,%9,%10,%11,%12,%13,%14,%15"
#define TROUPE_R32 TROUPE_R16 ",%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define TROUPE_R64                                                    \
  TROUPE_R32                                                          \
  ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47," \
  "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define TROUPE_WGMMA(shape, regs, a, b, add, rest)                                                             \
  "{.reg .pred add; setp.ne.b32 add, " add ", 0; wgmma.mma_async.sync.aligned." shape " {" regs "}, " a ", " b \
  ", add, " rest ";}"

/// d[64 x N] += a[64 x 16] . b[N x 16]^T, bf16. d[4j ...]: tokens 8j + 2t, +1 of row g, then of row g + 8, of each
/// warp's 16 rows. a: four registers a lane, as of mma.m16n8k16.
template <int N>
__device__ inline void wgmma(float (&d)[N / 2], const unsigned (&a)[4], std::uint64_t b) {
  static_assert(N == 16 || N == 32 || N == 64 || N == 128);
  if constexpr (N == 16) {
    asm volatile(TROUPE_WGMMA("m64n16k16.f32.bf16.bf16", TROUPE_R8, "{%8,%9,%10,%11}", "%12", "1", "1, 1, 0")
                 : TROUPE_D8(0)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
  } else if constexpr (N == 32) {
    asm volatile(TROUPE_WGMMA("m64n32k16.f32.bf16.bf16", TROUPE_R16, "{%16,%17,%18,%19}", "%20", "1", "1, 1, 0")
                 : TROUPE_D16(0)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
  } else if constexpr (N == 64) {
    asm volatile(TROUPE_WGMMA("m64n64k16.f32.bf16.bf16", TROUPE_R32, "{%32,%33,%34,%35}", "%36", "1", "1, 1, 0")
                 : TROUPE_D32(0)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
  } else {
    asm volatile(TROUPE_WGMMA("m64n128k16.f32.bf16.bf16", TROUPE_R64, "{%64,%65,%66,%67}", "%68", "1", "1, 1, 0")
                 : TROUPE_D32(0), TROUPE_D32(32)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
  }
}

/// The same with a in shared memory, as b is; `add` 0: d is overwritten.
template <int N>
__device__ inline void wgmma_bf16(float (&d)[N / 2], std::uint64_t a, std::uint64_t b, int add) {
  static_assert(N == 16 || N == 32 || N == 64);
  if constexpr (N == 16) {
    asm volatile(TROUPE_WGMMA("m64n16k16.f32.bf16.bf16", TROUPE_R8, "%8", "%9", "%10", "1, 1, 0, 0")
                 : TROUPE_D8(0)
                 : "l"(a), "l"(b), "r"(add));
  } else if constexpr (N == 32) {
    asm volatile(TROUPE_WGMMA("m64n32k16.f32.bf16.bf16", TROUPE_R16, "%16", "%17", "%18", "1, 1, 0, 0")
                 : TROUPE_D16(0)
                 : "l"(a), "l"(b), "r"(add));
  } else {
    asm volatile(TROUPE_WGMMA("m64n64k16.f32.bf16.bf16", TROUPE_R32, "%32", "%33", "%34", "1, 1, 0, 0")
                 : TROUPE_D32(0)
                 : "l"(a), "l"(b), "r"(add));
  }
}

/// e4m3, 32 columns a step. The unit keeps about 14 bits of a sum: add short runs up outside.
template <int N>
__device__ inline void wgmma_fp8(float (&d)[N / 2], std::uint64_t a, std::uint64_t b, int add) {
  static_assert(N == 16 || N == 32 || N == 64);
  if constexpr (N == 16) {
    asm volatile(TROUPE_WGMMA("m64n16k32.f32.e4m3.e4m3", TROUPE_R8, "%8", "%9", "%10", "1, 1")
                 : TROUPE_D8(0)
                 : "l"(a), "l"(b), "r"(add));
  } else if constexpr (N == 32) {
    asm volatile(TROUPE_WGMMA("m64n32k32.f32.e4m3.e4m3", TROUPE_R16, "%16", "%17", "%18", "1, 1")
                 : TROUPE_D16(0)
                 : "l"(a), "l"(b), "r"(add));
  } else {
    asm volatile(TROUPE_WGMMA("m64n64k32.f32.e4m3.e4m3", TROUPE_R32, "%32", "%33", "%34", "1, 1")
                 : TROUPE_D32(0)
                 : "l"(a), "l"(b), "r"(add));
  }
}
#undef TROUPE_WGMMA
#undef TROUPE_R64
#undef TROUPE_R32
#undef TROUPE_R16
#undef TROUPE_R8
#undef TROUPE_D32
#undef TROUPE_D16
#undef TROUPE_D8
#undef TROUPE_D4

}  // namespace troupe::kernels::cuda::hopper
