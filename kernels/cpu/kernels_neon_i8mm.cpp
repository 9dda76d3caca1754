// The kernels for NEON that multiplies 2 rows with 2 tokens at once. Knows only this instruction set.
#define TROUPE_NEON_I8MM
#include "kernels/cpu/vec_neon.hpp"
// After `vec`, whose names it uses.
#include "kernels/cpu/vector_kernels.hpp"

namespace troupe::kernels {

const kernel_set& neon_i8mm_kernels() noexcept { return vector_set; }

}  // namespace troupe::kernels
