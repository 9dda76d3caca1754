// Times products of one weight type with the kernels of several instruction sets. Knows no file and makes no choice.
#pragma once

#include <span>
#include <vector>

#include "kernels/cpu/product_ways.hpp"
#include "kernels/cpu/thread_team.hpp"
#include "memory/tensor_view.hpp"

namespace troupe::kernels {

/// The costs of ways_for(type, rows, usable) for each of costed_rows: the least of a few products by the whole team,
/// ways taken in turn, with made-up weights that lie in the caches (where memory is the limit, ways do not differ).
/// What is hopeless beside others is left out. `usable` is what the machine has, plain to best. About 20 ms on two
/// cores; empty where there is nothing to choose, no memory for some MiB of weights, or a machine so busy that times
/// are not to be believed.
std::vector<way_cost> measure_ways(thread_team& team, memory::dtype type, std::span<const isa> usable);

}  // namespace troupe::kernels
