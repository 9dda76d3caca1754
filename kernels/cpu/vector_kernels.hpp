// The kernels in terms of `vec`, a struct of static functions that names one instruction set's operations. Included by
// exactly one source file for each instruction set, after its `vec`: everything is in an unnamed namespace, so that no
// code compiled for one processor can be linked into another's path. Knows no intrinsic.
//
// vec provides: f32x16 (16 floats) with load, store, set, add, sub, mul, fma(a, b, c) = a * b + c, max, sum, max_of,
// load_f16, load_bf16, exp2i (2^n for integral n), round, below(x, limit) ? 0 : y; and for products, on
// `rows` rows at a time, block_dots, to_floats, load_half, load_rows, store_rows; and quantise_block.
#pragma once

#include "kernels/cpu/kernel_set.hpp"

// clang-format takes the pragma before a loop for a name.
// clang-format off

#if defined(__clang__)
#define TROUPE_UNROLL _Pragma("unroll")
#else
#define TROUPE_UNROLL _Pragma("GCC unroll 32")
#endif

namespace troupe::kernels {
namespace {

using f32x16 = vec::f32x16;
constexpr std::int64_t width = 16;

}  // namespace
}  // namespace troupe::kernels

#include "kernels/cpu/vector_attention.hpp"
#include "kernels/cpu/vector_kv_store.hpp"
#include "kernels/cpu/vector_products.hpp"
#include "kernels/cpu/vector_rows.hpp"
#include "kernels/cpu/vector_sampling.hpp"

namespace troupe::kernels {
namespace {

constexpr kernel_set vector_set{.which = vec::which,
                                .grouping = vec::grouping,
                                .bf16_together = vec::bf16_together,
                                .quantise = quantise,
                                .to_bf16 = bf16_conversion<vec>(),
                                .rms_norm = rms_norm,
                                .silu_mul = silu_mul,
                                .product = product,
                                .attention = {.rotate = rotate,
                                              .store = store_kv,
                                              .quantise_query = quantise_query,
                                              .attend = attend,
                                              .merge = merge,
                                              .divide = divide},
                                .sampling = {.best_of_runs = best_of_runs,
                                             .exponential_sums = exponential_sums,
                                             .weigh = weigh,
                                             .tally = tally,
                                             .gather = gather,
                                             .survey = survey}};

}  // namespace
}  // namespace troupe::kernels
