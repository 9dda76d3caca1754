// What composite ops do where no back end has something better. Knows no device.
#include "kernels/lane.hpp"

namespace troupe::kernels {

void lane::norm_linear(tensor_view x, tensor_view weight, float eps, const packed_matrix& w, tensor_view scratch,
                       tensor_view out) {
  rms_norm(x, weight, eps, scratch);
  linear(w, scratch, out);
}

void lane::silu_linear_add(tensor_view gate_up, const packed_matrix& w, tensor_view scratch, tensor_view out) {
  silu_mul(gate_up, scratch);
  linear_add(w, scratch, out);
}

}  // namespace troupe::kernels
