// A block a row or a warp a number, nothing kept, nothing shared. Knows no model.
#include "kernels/cuda/plain_ops.hpp"


#include <cmath>

namespace troupe::kernels::cuda {
namespace {

__device__ float warp_sum(float value) {
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(~0u, value, step);
  return value;
}

/// A warp an output.
__global__ void multiply(const unsigned char* w, memory::dtype type, std::int64_t w_rows, std::int64_t cols,
                         std::int64_t w_stride, const bf16* x, std::int64_t x_stride, float* out_f32, bf16* out_bf16,
                         std::int64_t out_stride, bool add) {
  wait_for_predecessor();
  let_successor_start();
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
  if (row >= w_rows) return;
  const bf16* input = x + blockIdx.y * x_stride;
  const unsigned char* weights = w + row * w_stride;
  float sum = 0.0f;
  for (std::int64_t i = threadIdx.x % 32; i < cols; i += 32)
    sum += __bfloat162float(input[i]) * element_of(weights, type, i);
  sum = warp_sum(sum);
  if (threadIdx.x % 32 != 0) return;
  const std::int64_t to = blockIdx.y * out_stride + row;
  if (out_f32) out_f32[to] = add ? out_f32[to] + sum : sum;
  if (out_bf16) out_bf16[to] = __float2bfloat16(add ? __bfloat162float(out_bf16[to]) + sum : sum);
}

/// A block a row; a thread a pair of one head, then K and V to the arena.
__global__ void rotate_and_store(plain_rope what, step_tables t) {
  wait_for_predecessor();
  let_successor_start();
  const int row = static_cast<int>(blockIdx.x);
  if (row >= t.counts[0]) return;
  const int position = t.row_position[row];
  const int dim = what.kv.head_dim;
  const int pairs = what.dims / 2;
  bf16* values = what.qkv + row * what.stride;
  const int rotated = what.heads + what.kv.kv_heads;
  for (int i = static_cast<int>(threadIdx.x); i < rotated * pairs; i += static_cast<int>(blockDim.x)) {
    const int pair = i % pairs;
    bf16* head = values + i / pairs * dim;
    bf16& first = what.interleaved ? head[2 * pair] : head[pair];
    bf16& second = what.interleaved ? head[2 * pair + 1] : head[pair + pairs];
    const double frequency = pow(static_cast<double>(what.base), -2.0 * pair / what.dims) / what.factors[pair];
    double sine = 0.0;
    double cosine = 0.0;
    sincos(position * frequency, &sine, &cosine);
    const float c = static_cast<float>(cosine);
    const float s = static_cast<float>(sine);
    const float a = __bfloat162float(first);
    const float b = __bfloat162float(second);
    first = __float2bfloat16(a * c - b * s);
    second = __float2bfloat16(a * s + b * c);
  }
  __syncthreads();
  const std::int64_t block = t.block_tables[t.row_sequence[row] * t.table_stride + position / 16];
  const bf16* k = values + what.heads * dim;
  for (int i = static_cast<int>(threadIdx.x); i < 2 * what.kv.kv_heads * dim; i += static_cast<int>(blockDim.x)) {
    const int head = i / dim;  // K heads, then V heads
    const std::int64_t at = what.kv.head_at(block, what.layer, head / what.kv.kv_heads, head % what.kv.kv_heads);
    what.kv.base[at + position % 16 * dim + i % dim] = k[i];
  }
}

constexpr int most_dim = 256;

/// A block of one warp a row and head: running softmax, a token at a time.
__global__ void attend(plain_attend what, step_tables t) {
  wait_for_predecessor();
  let_successor_start();
  const int row = static_cast<int>(blockIdx.x);
  if (row >= t.counts[0]) return;
  const int head = static_cast<int>(blockIdx.y);
  const int dim = what.kv.head_dim;
  const int kv_head = head / (what.heads / what.kv.kv_heads);
  const int lane = static_cast<int>(threadIdx.x);
  const std::int32_t* table = t.block_tables + t.row_sequence[row] * t.table_stride;
  float query[most_dim / 32];
  float sum[most_dim / 32];
  for (int j = 0; j < most_dim / 32; ++j) {
    const int i = lane + 32 * j;
    query[j] = i < dim ? __bfloat162float(what.qkv[row * what.stride + head * dim + i]) * what.scale : 0.0f;
    sum[j] = 0.0f;
  }
  float largest = -INFINITY;
  float weights = 0.0f;
  for (int token = 0; token <= t.row_position[row]; ++token) {
    const std::int64_t block = table[token / 16];
    const bf16* k = what.kv.base + what.kv.head_at(block, what.layer, 0, kv_head) + token % 16 * dim;
    const bf16* v = what.kv.base + what.kv.head_at(block, what.layer, 1, kv_head) + token % 16 * dim;
    float score = 0.0f;
    for (int j = 0; j < most_dim / 32; ++j)
      if (lane + 32 * j < dim) score += query[j] * __bfloat162float(k[lane + 32 * j]);
    score = warp_sum(score);
    const float now = fmaxf(largest, score);
    const float keep = expf(largest - now);
    const float weight = expf(score - now);
    for (int j = 0; j < most_dim / 32; ++j)
      if (lane + 32 * j < dim) sum[j] = sum[j] * keep + weight * __bfloat162float(v[lane + 32 * j]);
    weights = weights * keep + weight;
    largest = now;
  }
  for (int j = 0; j < most_dim / 32; ++j)
    if (lane + 32 * j < dim)
      what.out[row * what.out_stride + head * dim + lane + 32 * j] = __float2bfloat16(sum[j] / weights);
}

/// A block a row.
__global__ void choose_largest(const float* logits, std::int64_t stride, int vocabulary, std::int32_t* picks, step_tables t) {
  wait_for_predecessor();
  let_successor_start();
  const int sample = static_cast<int>(blockIdx.x);
  if (sample >= t.counts[2]) return;
  __shared__ float best_of[1024];
  __shared__ int id_of[1024];
  const float* row = logits + sample * stride;
  float best = -INFINITY;
  int id = -1;
  bool broken = false;
  for (int i = static_cast<int>(threadIdx.x); i < vocabulary; i += static_cast<int>(blockDim.x)) {
    broken = broken || isnan(row[i]);
    if (row[i] > best) {
      best = row[i];
      id = i;
    }
  }
  const bool any_broken = __syncthreads_or(broken) != 0;
  best_of[threadIdx.x] = best;
  id_of[threadIdx.x] = id;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (unsigned i = 1; i < blockDim.x; ++i)
    if (id_of[i] >= 0 && (best_of[i] > best || (best_of[i] == best && (id < 0 || id_of[i] < id)))) {
      best = best_of[i];
      id = id_of[i];
    }
  if (any_broken) id = -1;
  picks[sample] = id;
  t.last_ids[t.sample_slots[sample]] = id;
}

}  // namespace

void plain_linear(const plain_product& p, cudaStream_t on) {
  const dim3 grid(static_cast<unsigned>((p.w->rows + 7) / 8), static_cast<unsigned>(p.rows));
  launch(multiply, grid, dim3(256), 0, on, p.w->bytes.as<unsigned char>(), p.w->type, p.w->rows, p.w->cols, p.w->stride, p.x,
         p.x_stride, p.out_f32, p.out_bf16, p.out_stride, p.add);
}

void plain_rope_store(const plain_rope& what, const step_tables& tables, cudaStream_t on) {
  launch(rotate_and_store, dim3(static_cast<unsigned>(tables.rows)), dim3(256), 0, on, what, tables);
}

void plain_attention(const plain_attend& what, const step_tables& tables, cudaStream_t on) {
  launch(attend, dim3(static_cast<unsigned>(tables.rows), static_cast<unsigned>(what.heads)), dim3(32), 0, on, what, tables);
}

void plain_greedy(const float* logits, std::int64_t stride, std::int32_t vocabulary, std::int32_t* picks,
                  const step_tables& tables, cudaStream_t on) {
  launch(choose_largest, dim3(static_cast<unsigned>(tables.samples)), dim3(1024), 0, on, logits, stride, vocabulary, picks, tables);
}

}  // namespace troupe::kernels::cuda
