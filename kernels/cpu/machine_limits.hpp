// What this machine can deliver at best, measured: the ceilings that `troupe bench` and `troupe doctor` put beside
// every figure. Knows no model.
#pragma once

#include <troupe/result.hpp>

#include "kernels/cpu/isa.hpp"
#include "kernels/cpu/thread_team.hpp"

namespace troupe::kernels {

struct machine_limits {
  double read_bytes_per_second = 0;  ///< whole team reading a buffer far larger than the caches, best pass
  double int8_ops_per_second =
      0;  ///< whole team, 8-bit multiply-adds from registers; a multiply and an add are two ops
  double float_ops_per_second =
      0;  ///< the same of bf16 dot products where `which` and the processor have them, else of f32
};

/// Takes about 0.4 s and 512 MiB; out_of_memory if those are not there. The arithmetic rates are those of the best
/// instructions of `which`.
result<machine_limits> measure_limits(thread_team& team, isa which);

}  // namespace troupe::kernels
