// The kernels for AVX2 with the VNNI dot product. Knows only this instruction set.
#define TROUPE_AVX_VNNI
#include "kernels/cpu/vec_avx2.hpp"
// After `vec`, whose names it uses.
#include "kernels/cpu/vector_kernels.hpp"

namespace troupe::kernels {

const kernel_set& avx_vnni_kernels() noexcept { return vector_set; }

}  // namespace troupe::kernels
