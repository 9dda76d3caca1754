// Chooses how a product is computed: few rows stream the weights, more go to the library after their norm and before
// their silu as kernels of their own. Knows no model.
#include "kernels/cuda/products.hpp"

#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <algorithm>
#include <utility>

namespace troupe::kernels::cuda {
namespace {

enum class form : std::uint8_t { bf16, f16, fp8 };

__device__ float block_reduced(float v, bool largest, float* scratch) {
  for (int o = 16; o; o >>= 1) {
    const float other = __shfl_xor_sync(0xffffffffu, v, o);
    v = largest ? fmaxf(v, other) : v + other;
  }
  __syncthreads();
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = v;
  __syncthreads();
  float all = scratch[0];
  for (unsigned i = 1; i < blockDim.x / 32; ++i) all = largest ? fmaxf(all, scratch[i]) : all + scratch[i];
  return all;
}

/// A block a row: norm if asked for, then the element type that the product wants; fp8 with a scale a row.
__global__ void prepare_x(product p, int k, int k_out, void* out, float* scales, form into) {
  __shared__ float scratch[32];
  wait_for_predecessor();
  let_successor_start();
  const int row = blockIdx.x;
  const float* const h = p.hidden + row * p.x_stride;
  float inverse = 1.0f, scale = 1.0f;
  if (!p.x) {
    float squares = 0.0f;
    for (int c = threadIdx.x; c < k; c += blockDim.x) squares += h[c] * h[c];
    inverse = rsqrtf(block_reduced(squares, false, scratch) / static_cast<float>(k) + p.eps);
  }
  const auto value = [&](int c) {
    return p.x ? __bfloat162float(p.x[row * p.x_stride + c]) : h[c] * inverse * p.gain[c];
  };
  if (into == form::fp8) {
    float largest = 0.0f;
    for (int c = threadIdx.x; c < k; c += blockDim.x) largest = fmaxf(largest, fabsf(value(c)));
    largest = block_reduced(largest, true, scratch);
    if (largest > 0.0f) scale = 448.0f / largest;
    if (threadIdx.x == 0) scales[row] = 1.0f / scale;
  }
  for (int c = threadIdx.x; c < k_out; c += blockDim.x) {
    const long at = static_cast<long>(row) * k_out;
    const float v = c < k ? value(c) : 0.0f;
    if (into == form::fp8) static_cast<std::uint8_t*>(out)[at + fp8_place(c)] = __nv_cvt_float_to_fp8(v * scale, __NV_SATFINITE, __NV_E4M3);
    else if (into == form::f16) static_cast<__half*>(out)[at + c] = __float2half(v);
    else static_cast<bf16*>(out)[at + c] = __float2bfloat16(v);
  }
}

__global__ void silu_halves(const bf16* gate_up, bf16* out, int n, long out_stride) {
  wait_for_predecessor();
  let_successor_start();
  const long row = blockIdx.y;
  const int c = (blockIdx.x * blockDim.x + threadIdx.x) * 8;
  if (c >= n) return;
  const uint4 g = *reinterpret_cast<const uint4*>(gate_up + row * 2 * n + c);
  const uint4 u = *reinterpret_cast<const uint4*>(gate_up + row * 2 * n + n + c);
  const auto two = [](unsigned a, unsigned b) {
    const float2 gate = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&a));
    const float2 up = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&b));
    const __nv_bfloat162 r = __floats2bfloat162_rn(gate.x / (1.0f + __expf(-gate.x)) * up.x, gate.y / (1.0f + __expf(-gate.y)) * up.y);
    return *reinterpret_cast<const unsigned*>(&r);
  };
  *reinterpret_cast<uint4*>(out + row * out_stride + c) = {two(g.x, u.x), two(g.y, u.y), two(g.z, u.z), two(g.w, u.w)};
}

result<void> grow(device_buffer& buffer, std::int64_t bytes) {
  if (buffer.bytes() >= bytes) return {};
  auto larger = allocate_device(bytes);
  if (!larger) return larger.why();
  buffer = std::move(*larger);
  return {};
}

constexpr std::int32_t wide_rows = 64;  // to here the wgmma kernel outruns the library

bool dense_type(weight_type t) { return t == weight_type::bf16 || t == weight_type::f16 || t == weight_type::fp8; }

}  // namespace

result<std::unique_ptr<products>> products::make() {
  auto made = std::make_unique<products>();
  if (auto library = load_cublas_lt()) made->library_ = std::move(*library);
  if (auto done = grow(made->shares_, wide_workspace::shares_bytes); !done) return done.why();
  if (auto done = grow(made->arrived_, wide_workspace::arrived_bytes); !done) return done.why();
  if (auto done = check(cudaMemset(made->arrived_.data(), 0, wide_workspace::arrived_bytes), "clearing counters"); !done)
    return done.why();
  return result<std::unique_ptr<products>>(std::move(made));
}

result<void> products::reserve(std::int32_t rows, const device_matrix& w) {
  if (rows <= small_product_rows(w)) return {};
  if (auto done = grow(prepared_, rows * w.k_padded * 2); !done) return done;
  if (!dense_type(w.type)) return {};
  if (auto done = grow(scales_, rows * 4L); !done) return done;
  return grow(wide_, rows * w.rows * 2);
}

result<void> products::linear(const product& p, cudaStream_t on) {
  const std::int32_t most = small_product_rows(*p.w);
  if (p.rows > wide_rows && library_ && dense_type(p.w->type)) return dense(p, on);
  if (p.rows > most) {
    product given = p;
    if (!p.x) {
      const int k = static_cast<int>(p.w->cols);
      launch(prepare_x, dim3(p.rows), dim3(256), 0, on, p, k, k, prepared_.data(), static_cast<float*>(nullptr), form::bf16);
      given.x = prepared_.as<const bf16>();
      given.x_stride = k;
    }
    if (wide_product(given, space(), on)) return {};
    if (library_ && dense_type(p.w->type)) return dense(p, on);
  }
  product some = p;
  const std::int64_t out_bytes = p.output == product_output::f32 || p.output == product_output::add_f32 ? 4 : 2;
  for (std::int32_t first = 0; first < p.rows; first += most) {
    some.rows = std::min(most, p.rows - first);
    if (p.x) some.x = p.x + first * p.x_stride;
    else some.hidden = p.hidden + first * p.x_stride;
    some.out = static_cast<std::byte*>(p.out) + first * p.out_stride * out_bytes;
    small_product(some, on);
  }
  return {};
}

result<void> products::dense(const product& p, cudaStream_t on) {
  const device_matrix& w = *p.w;
  const int k = static_cast<int>(w.cols), k_padded = static_cast<int>(w.k_padded);
  dense_product d;
  d.w = w.data.data();
  d.w_stride = w.k_padded;
  d.w_scale = w.scales.as<const float>();
  d.n = static_cast<std::int32_t>(w.rows);
  d.k = k_padded;
  d.rows = p.rows;
  d.inputs = w.type == weight_type::fp8   ? dense_product::element::fp8
             : w.type == weight_type::f16 ? dense_product::element::f16
                                          : dense_product::element::bf16;
  if (p.x && w.type == weight_type::bf16) {
    d.k = k;
    d.x = p.x;
    d.x_stride = p.x_stride;
  } else {
    launch(prepare_x, dim3(p.rows), dim3(256), 0, on, p, k, k_padded, prepared_.data(), scales_.as<float>(),
           w.type == weight_type::fp8 ? form::fp8 : w.type == weight_type::f16 ? form::f16 : form::bf16);
    d.x = prepared_.data();
    d.x_stride = k_padded;
    d.x_scale = scales_.as<const float>();
  }
  d.f32_out = p.output == product_output::f32 || p.output == product_output::add_f32;
  d.add = p.output == product_output::add_f32;
  const bool silu = p.output == product_output::silu_bf16;
  d.out = silu ? wide_.data() : p.out;
  d.out_stride = silu ? w.rows : p.out_stride;
  if (auto done = library_->multiply(d, on); !done) return done;
  if (silu) {
    const int n = d.n / 2;
    launch(silu_halves, dim3((n / 8 + 127) / 128, p.rows), dim3(128), 0, on, static_cast<const bf16*>(wide_.data()),
           static_cast<bf16*>(p.out), n, static_cast<long>(p.out_stride));
  }
  return {};
}

}  // namespace troupe::kernels::cuda
