// The part of `troupe doctor` that shows how products are computed on this machine, and what that reaches.
#pragma once

#include "kernels/cpu/machine_limits.hpp"

namespace troupe::cli {

/// A row a weight type: the way, and its share of `limits`, for some numbers of rows. What is kept in the cache folder
/// is shown; what is missing of common types, or with `anew` all of it, is measured and kept.
void show_products(const kernels::machine_limits& limits, bool anew);

}  // namespace troupe::cli
