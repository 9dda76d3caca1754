// The kernels for AVX-512 with VNNI and BF16. Knows only this instruction set.
#define TROUPE_AVX512_BF16
#include "kernels/cpu/vec_avx512.hpp"
// After `vec`, whose names it uses.
#include "kernels/cpu/vector_kernels.hpp"

namespace troupe::kernels {

const kernel_set& avx512bf16_kernels() noexcept { return vector_set; }

}  // namespace troupe::kernels
