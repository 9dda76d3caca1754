// Words that carry their own arrival: 32 bits of value and 32 of a tag that differs from what lay there before. A block
// that stays on its multiprocessor hands numbers to the others this way: no fence, no counter, one trip through L2.
// Relaxed accesses of 8 bytes are single copies (PTX ISA, memory consistency model). Device code only; knows no op.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.hpp"

namespace troupe::kernels::cuda {

using tagged_word = unsigned long long;

__device__ inline tagged_word tagged(std::uint32_t value, std::uint32_t tag) {
  return static_cast<tagged_word>(tag) << 32 | value;
}
__device__ inline std::uint32_t value_of(tagged_word w) { return static_cast<std::uint32_t>(w); }
__device__ inline bool has_tag(tagged_word w, std::uint32_t tag) { return static_cast<std::uint32_t>(w >> 32) == tag; }

__device__ inline void publish(tagged_word* to, tagged_word w) {
  asm volatile("st.relaxed.gpu.global.b64 [%0], %1;" ::"l"(to), "l"(w) : "memory");
}
__device__ inline tagged_word look(const tagged_word* at) {
  tagged_word w;
  asm volatile("ld.relaxed.gpu.global.b64 %0, [%1];" : "=l"(w) : "l"(at) : "memory");
  return w;
}
__device__ inline void look(tagged_word& a, tagged_word& b, const tagged_word* at) {
  asm volatile("ld.relaxed.gpu.global.v2.b64 {%0, %1}, [%2];" : "=l"(a), "=l"(b) : "l"(at) : "memory");
}

/// `Count` neighbouring words (16-byte aligned), once all of them have come.
template <int Count>
__device__ inline void await_words(tagged_word (&words)[Count], const tagged_word* at, std::uint32_t tag) {
  static_assert(Count % 2 == 0);
  bool come;
  do {
#pragma unroll
    for (int i = 0; i < Count; i += 2) look(words[i], words[i + 1], at + i);
    come = true;
#pragma unroll
    for (int i = 0; i < Count; ++i) come &= has_tag(words[i], tag);
  } while (!come);
}

}  // namespace troupe::kernels::cuda
