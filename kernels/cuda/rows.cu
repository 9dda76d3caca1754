// Row kernels: a block a row. Knows no sequence.
#include "kernels/cuda/rows.hpp"

#include <algorithm>
#include <string>

#include "kernels/cuda/file_blocks.cuh"

namespace troupe::kernels::cuda {
namespace {

__global__ void embed_rows(const unsigned char* table, memory::dtype type, int vocabulary, std::int64_t cols,
                           std::int64_t stride, const std::int32_t* ids, const std::int32_t* last_ids, float* out,
                           std::int64_t out_stride) {
  wait_for_predecessor();
  let_successor_start();
  int id = ids[blockIdx.x];
  if (id < 0) id = last_ids[-1 - id];
  if (id < 0 || id >= vocabulary) id = 0;
  const unsigned char* row = table + id * stride;
  for (std::int64_t i = threadIdx.x; i < cols; i += blockDim.x)
    out[blockIdx.x * out_stride + i] = element_of(row, type, i);
}

/// The sum over a block of up to 1024 threads, to every thread; always added in the same order.
__device__ float block_sum(float value) {
  __shared__ float sums[32];
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(~0u, value, step);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = value;
  __syncthreads();
  float total = 0.0f;
  for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) total += sums[warp];
  return total;
}

/// Four columns a thread, if there are no more: then the gain, which nobody writes, is there before the row.
__global__ void norm_rows(const float* x, std::int64_t x_stride, const float* weight, float eps, std::int64_t n,
                          bf16* out, std::int64_t out_stride) {
  const float* row = x + blockIdx.x * x_stride;
  bf16* to = out + blockIdx.x * out_stride;
  const std::int64_t first = std::int64_t{threadIdx.x} * 4;
  const bool whole = n <= std::int64_t{blockDim.x} * 4 && n % 4 == 0 && x_stride % 4 == 0 && out_stride % 4 == 0;
  float4 gain = {}, v = {};
  if (whole && first < n) gain = *reinterpret_cast<const float4*>(weight + first);
  wait_for_predecessor();
  let_successor_start();
  if (whole) {
    if (first < n) v = *reinterpret_cast<const float4*>(row + first);
    const float scale = rsqrtf(block_sum(v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w) / static_cast<float>(n) + eps);
    if (first >= n) return;
    const __nv_bfloat162 low = __floats2bfloat162_rn(v.x * scale * gain.x, v.y * scale * gain.y);
    const __nv_bfloat162 high = __floats2bfloat162_rn(v.z * scale * gain.z, v.w * scale * gain.w);
    *reinterpret_cast<uint2*>(to + first) = {*reinterpret_cast<const unsigned*>(&low),
                                             *reinterpret_cast<const unsigned*>(&high)};
    return;
  }
  float sum = 0.0f;
  for (std::int64_t i = threadIdx.x; i < n; i += blockDim.x) sum += row[i] * row[i];
  const float scale = rsqrtf(block_sum(sum) / static_cast<float>(n) + eps);
  for (std::int64_t i = threadIdx.x; i < n; i += blockDim.x) to[i] = __float2bfloat16(row[i] * scale * weight[i]);
}

__global__ void gate_rows(const bf16* gate_up, std::int64_t stride, std::int64_t n, bf16* out,
                          std::int64_t out_stride) {
  wait_for_predecessor();
  let_successor_start();
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const bf16* row = gate_up + blockIdx.y * stride;
  const float gate = __bfloat162float(row[i]);
  const float up = __bfloat162float(row[n + i]);
  out[blockIdx.y * out_stride + i] = __float2bfloat16(gate / (1.0f + __expf(-gate)) * up);
}

unsigned threads_for(std::int64_t n) {
  return static_cast<unsigned>(std::clamp<std::int64_t>((n + 127) / 128 * 32, 32, 1024));
}

}  // namespace

result<stored_rows> make_rows(const memory::tensor_view& like) {
  if (like.type == memory::dtype::i32) return error{errc::unsupported, "CUDA has no table of integers", {}};
  stored_rows to{{}, like.type, like.rows, like.cols, like.stride_bytes};
  auto bytes = allocate_device(like.bytes());
  if (!bytes) return bytes.why();
  to.bytes = std::make_shared<device_buffer>(*std::move(bytes));
  return result<stored_rows>(std::move(to));
}

result<stored_rows> store_rows(const memory::tensor_view& from, cudaStream_t on) {
  auto to = make_rows(from);
  if (!to) return to;
  const auto size = static_cast<std::size_t>(from.bytes());
  if (auto r =
          check(cudaMemcpyAsync(to->bytes->data(), from.data, size, cudaMemcpyHostToDevice, on), "copying weights");
      !r)
    return r.why();
  if (auto r = check(cudaStreamSynchronize(on), "copying weights"); !r) return r.why();
  return to;
}

void embed(const table_rows& table, const step_tables& tables, float* out, std::int64_t out_stride, cudaStream_t on) {
  launch(embed_rows, dim3(static_cast<unsigned>(tables.rows)), dim3(256), 0, on, table.data, table.type,
         static_cast<int>(table.rows), table.cols, table.stride, tables.ids, tables.last_ids, out, out_stride);
}

void rms_norm(const float* x, std::int64_t x_stride, const float* weight, float eps, std::int64_t rows, std::int64_t n,
              bf16* out, std::int64_t out_stride, cudaStream_t on) {
  launch(norm_rows, dim3(static_cast<unsigned>(rows)), dim3(threads_for(n)), 0, on, x, x_stride, weight, eps, n, out,
         out_stride);
}

void silu_mul(const bf16* gate_up, std::int64_t stride, std::int64_t rows, std::int64_t n, bf16* out,
              std::int64_t out_stride, cudaStream_t on) {
  const dim3 grid(static_cast<unsigned>((n + 255) / 256), static_cast<unsigned>(rows));
  launch(gate_rows, grid, dim3(256), 0, on, gate_up, stride, n, out, out_stride);
}

}  // namespace troupe::kernels::cuda
