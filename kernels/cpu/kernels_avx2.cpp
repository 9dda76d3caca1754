// The kernels for AVX2. Knows only this instruction set.
#include "kernels/cpu/vec_avx2.hpp"
// After `vec`, whose names it uses.
#include "kernels/cpu/vector_kernels.hpp"

namespace troupe::kernels {

const kernel_set& avx2_kernels() noexcept { return vector_set; }

}  // namespace troupe::kernels
