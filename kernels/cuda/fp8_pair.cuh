// Two e4m3 to two f16, also where the device has no instruction for it. Device code only; knows no scales.
#pragma once

#include <cuda_fp16.h>

namespace troupe::kernels::cuda {

/// Of the lower 16 bits of `two`; exact, since every e4m3 is an f16.
__device__ inline unsigned fp8_pair(unsigned two) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 890
  const unsigned apart = __byte_perm(two, 0, 0x1404), raised = (apart & 0x80008000u) | (apart & 0x7f007f00u) >> 1;
  const __half2 out = __hmul2(*reinterpret_cast<const __half2*>(&raised),
                              __half2half2(__ushort_as_half(0x5c00)));  // 2^8: the biases' difference
  return *reinterpret_cast<const unsigned*>(&out);
#else
  unsigned out;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(out) : "h"(static_cast<unsigned short>(two)));
  return out;
#endif
}

}  // namespace troupe::kernels::cuda
