#include "kernels/cpu/kernel_set.hpp"
namespace troupe::kernels {
const kernel_set& avx512vnni_kernels() noexcept { return scalar_kernels(); }
}
