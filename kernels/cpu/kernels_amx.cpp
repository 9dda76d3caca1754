// The kernels for AVX-512 with VNNI, BF16 and AMX tiles. Knows only this instruction set.
#define TROUPE_AVX512_BF16
#define TROUPE_AMX
#include "kernels/cpu/vec_avx512.hpp"
// After `vec`, whose names it uses.
#include "kernels/cpu/vector_kernels.hpp"

namespace troupe::kernels {

const kernel_set& amx_kernels() noexcept { return vector_set; }

}  // namespace troupe::kernels
