// The kernels for NEON with the 8-bit dot product. Knows only this instruction set.
#include "kernels/cpu/vec_neon.hpp"
// After `vec`, whose names it uses.
#include "kernels/cpu/vector_kernels.hpp"

namespace troupe::kernels {

const kernel_set& neon_kernels() noexcept { return vector_set; }

}  // namespace troupe::kernels
