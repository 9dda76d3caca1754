// What stands before and after the library's products, as kernels of their own: the norm, the element type that a
// product wants, silu. Knows no weights.
#pragma once

#include "kernels/cuda/products.hpp"

namespace troupe::kernels::cuda {

/// The element type of x.
enum class row_form : std::uint8_t { bf16, f16, fp8 };

/// The x of `p`, [T, k_out] of `into`: normed if asked for, zeros from column k on. f16 and fp8 with a scale a row:
/// fp8 in the order of fp8_place. One launch; each row is read once.
void prepare_rows(const product& p, int k, int k_out, void* out, float* scales, row_form into, cudaStream_t on);

/// The same of a product whose x is gate|up: silu(gate) * up in fp8. Up to most_gated columns.
void prepare_gated_rows(const product& p, int k, int k_out, void* out, float* scales, cudaStream_t on);
constexpr int most_gated = 32 * 2048;

/// f32 sums [T, n] of the library's f16 products, times `scales` of their rows, to what `p` wants of them.
void finish_f16_rows(const float* sums, const float* scales, const product& p, int n, cudaStream_t on);

/// out[T, n] = silu of the first half of gate_up [T, 2 n], times the second.
void silu_rows(const bf16* gate_up, bf16* out, std::int32_t rows, int n, std::int64_t out_stride, cudaStream_t on);

}  // namespace troupe::kernels::cuda
