// Every op once more, as plainly as it can be written: what the fast kernels are compared with on the device, and what
// runs where there is no fast one. Knows no model.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.hpp"
#include "kernels/cuda/step_tables.hpp"
#include "kernels/cuda/stored_rows.hpp"
#include "kernels/lane.hpp"

namespace troupe::kernels::cuda {

/// Elements from one K or V of one head to the next: [block][layer][K, V][kv_head][16 tokens][head_dim].
struct kv_layout {
  bf16* base = nullptr;
  std::int32_t layers = 0;
  std::int32_t kv_heads = 0;
  std::int32_t head_dim = 0;
  __host__ __device__ std::int64_t head_at(std::int64_t block, std::int32_t layer, std::int32_t kv, std::int32_t head) const {
    return (((block * layers + layer) * 2 + kv) * kv_heads + head) * 16 * head_dim;
  }
};

/// out[T, w.rows] (+)= x[T, w.cols] . w^T, f32 or bf16; columns of `out` from `first_col` on.
struct plain_product {
  const stored_rows* w = nullptr;
  const bf16* x = nullptr;
  std::int64_t x_stride = 0;
  std::int64_t rows = 0;
  float* out_f32 = nullptr;
  bf16* out_bf16 = nullptr;
  std::int64_t out_stride = 0;
  bool add = false;
};
void plain_linear(const plain_product& what, cudaStream_t on);

struct plain_rope {
  bf16* qkv = nullptr;
  std::int64_t stride = 0;
  std::int32_t heads = 0;
  std::int32_t layer = 0;
  float base = 0.0f;
  std::int32_t dims = 0;
  bool interleaved = true;
  float factors[128] = {};  ///< [dims / 2] frequency divisors, 1 where the model has none
  kv_layout kv;
};
void plain_rope_store(const plain_rope& what, const step_tables& tables, cudaStream_t on);

struct plain_attend {
  const bf16* qkv = nullptr;
  std::int64_t stride = 0;
  std::int32_t heads = 0;
  std::int32_t layer = 0;
  float scale = 1.0f;
  kv_layout kv;
  bf16* out = nullptr;
  std::int64_t out_stride = 0;
};
/// Head dimensions up to 256.
void plain_attention(const plain_attend& what, const step_tables& tables, cudaStream_t on);

/// The largest logit of each row, the lowest id among equals; -1 where a row holds NaN or only -inf. To picks[R] and last_ids.
void plain_greedy(const float* logits, std::int64_t stride, std::int32_t vocabulary, std::int32_t* picks,
                  const step_tables& tables, cudaStream_t on);

}  // namespace troupe::kernels::cuda
