// The kernels for AVX-512 with VNNI. Knows only this instruction set.
#include "kernels/cpu/vec_avx512.hpp"
// After `vec`, whose names it uses.
#include "kernels/cpu/vector_kernels.hpp"

namespace troupe::kernels {

const kernel_set& avx512vnni_kernels() noexcept { return vector_set; }

}  // namespace troupe::kernels
