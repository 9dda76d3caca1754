// Launches of the wgmma kernel: the tile's width from the rows, the tensor maps of x and of row-major weights.
#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/cuda/wide_products.cuh"

namespace troupe::kernels::cuda {
namespace {

using encode_tiled = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                                  const cuuint64_t*, const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave,
                                  CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

encode_tiled find_encode_tiled() {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult status{};
  const auto asked =
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &status);
  return asked == cudaSuccess && status == cudaDriverEntryPointSuccess ? reinterpret_cast<encode_tiled>(found)
                                                                       : nullptr;
}

struct hopper_device {
  encode_tiled encode = nullptr;  // null: another kind of device
  int processors = 0;
};

hopper_device find_hopper() {
  int device = 0, major = 0, minor = 0;
  hopper_device found;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  cudaDeviceGetAttribute(&found.processors, cudaDevAttrMultiProcessorCount, device);
  if (major == 9 && minor == 0) found.encode = find_encode_tiled();
  return found;
}

/// A map of [rows, cols], boxes of 128 bytes a row.
CUtensorMap map_of(encode_tiled encode, const void* data, bool bytes, std::int64_t rows, std::int64_t cols,
                   std::int64_t stride, int box_rows) {
  CUtensorMap map;
  const cuuint64_t sizes[2] = {static_cast<cuuint64_t>(cols), static_cast<cuuint64_t>(rows)};
  const cuuint64_t strides[1] = {static_cast<cuuint64_t>(stride) * (bytes ? 1 : 2)};
  const cuuint32_t box[2] = {bytes ? 128u : 64u, static_cast<cuuint32_t>(box_rows)}, steps[2] = {1, 1};
  encode(&map, bytes ? CU_TENSOR_MAP_DATA_TYPE_UINT8 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<void*>(data),
         sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
         CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return map;
}

/// As launch() of device.hpp, in clusters.
template <class Kernel>
void launch_clusters(Kernel kernel, int cluster, dim3 blocks, int threads, int shared_bytes, cudaStream_t on,
                     const wide_arguments& a, const CUtensorMap& x_map, const CUtensorMap& w_map) {
  cudaLaunchAttribute wanted[2] = {};
  wanted[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  wanted[0].val.programmaticStreamSerializationAllowed = 1;
  wanted[1].id = cudaLaunchAttributeClusterDimension;
  wanted[1].val.clusterDim.x = static_cast<unsigned>(cluster);
  wanted[1].val.clusterDim.y = wanted[1].val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = blocks;
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared_bytes;
  config.stream = on;
  config.attrs = wanted;
  config.numAttrs = 2;
  static_cast<void>(cudaLaunchKernelEx(&config, kernel, a, x_map, w_map));
}

/// Blocks that share a tile's columns; from the matrix alone. Few: as many as leave no block for a second turn. Else
/// enough to keep most of the processors reading, and two an SM where columns are many; not two for fp8: clusters of 8
/// are a little more than fit at once, and 64 rows take 29.8 us for 25.7.
int split_of(const product& p, int columns, int processors) {
  const device_matrix& w = *p.w;
  const std::int64_t groups = w.k_padded / columns,
                     rows = p.output == product_output::silu_bf16 || !is_small(w) ? 128 : 64;
  const std::int64_t tiles = (w.n_padded + rows - 1) / rows;
  int split = 1;
  const auto may_double = [&] { return split < 8 && groups >= 4 * split; };
  if (is_small(w)) {
    while (may_double() && tiles * split * 2 <= processors) split *= 2;
    return split;
  }
  while (may_double() && tiles * split < processors * 3 / 4) split *= 2;
  if (w.type != weight_type::fp8 && may_double() && tiles * split <= processors && w.k_padded >= 3072 * split)
    split *= 2;
  return split;
}

struct small_tiles {
  int tokens, split;
};

/// More than 32 rows of a small matrix (bench/cuda_products.cu). Up to 64 rows tiles of 32 tokens, more: of 64; each
/// shared by as many blocks as leave a processor one and a half tiles, which follows from the matrix and how many
/// tiles of tokens there are. Halves of tiles, in the same order of sums, where the last tile would be half empty and
/// all blocks are on the device at once still; and where there are many, of which less is sent to each other then.
small_tiles small_tiles_of(const product& p, int columns, int processors) {
  const int per = p.rows <= 64 ? 32 : 64;
  const std::int64_t groups = p.w->k_padded / columns, n64 = p.w->n_padded / 64,
                     tiles = n64 * ((p.rows + per - 1) / per);
  small_tiles found{per, 1};
  while (found.split < 8 && groups >= 4 * found.split && tiles * found.split * 2 <= processors * 3 / 2)
    found.split *= 2;
  const int halves = (p.rows + 31) / 32;
  if (p.output == product_output::silu_bf16 && halves % 2 != 0 && n64 / 2 * halves * found.split <= 2 * processors)
    found.tokens = 32;
  if (found.split > 1 && p.rows > 192) found.tokens = 32;
  return found;
}

int columns_of(weight_type type) {
  return type == weight_type::bf16 ? wide::bf16_rows::columns : wide::fp8_rows::columns;
}

template <class F, int N, int Groups, int Each = 2>
void launch_wide(const product& p, const wide_input& x, const hopper_device& device, const wide_next& next, int split,
                 cudaStream_t on) {
  using shape = wide_shape<F, N, Groups, Each>;
  const device_matrix& w = *p.w;
  const CUtensorMap x_map =
      map_of(device.encode, x.data, F::bytes, p.rows, F::bytes ? w.k_padded : w.cols, x.stride, N);
  CUtensorMap w_map{};
  if (F::in_place) w_map = map_of(device.encode, w.data.data(), F::bytes, w.n_padded, w.k_padded, w.k_padded, 64);
  const bool silu = p.output == product_output::silu_bf16;
  wide_arguments a{};
  a.data = w.data.as<const std::uint8_t>();
  a.scales = w.scales.as<const std::uint8_t>();
  if (F::bytes) a.row_scale = w.scales.as<const float>();
  a.x_scale = x.scales;
  a.squares = x.squares;
  a.squares_count = static_cast<int>((w.cols + 63) / 64);
  a.norm_width = static_cast<float>(w.cols);
  a.eps = p.eps;
  a.next = next;
  a.n = static_cast<int>(w.rows);
  a.half64 = silu ? a.n / 128 : 0;
  a.n64 = static_cast<int>(w.n_padded / 64);
  a.groups = static_cast<int>(w.k_padded / F::columns);
  a.rows = p.rows;
  a.weight_tiles = silu ? (a.half64 + Groups - 1) / Groups : (a.n64 + Each * Groups - 1) / (Each * Groups);
  a.token_tiles = (p.rows + N - 1) / N;
  a.split = 1;
  dim3 blocks(std::min(device.processors, a.weight_tiles * a.token_tiles));
  if (Groups == 1) {
    a.split = split > 0 ? split : split_of(p, F::columns, device.processors);
    a.split_bits = std::countr_zero(static_cast<unsigned>(a.split));
    blocks = dim3(a.split, a.token_tiles, a.weight_tiles);
  }
  a.out = p.out;
  a.out_stride = p.out_stride;
  a.output = p.output;
  static const cudaError_t raised = [] {
    cudaFuncSetAttribute(wide_product_kernel<F, N, Groups, Each>, cudaFuncAttributePreferredSharedMemoryCarveout,
                         cudaSharedmemCarveoutMaxShared);
    return cudaFuncSetAttribute(wide_product_kernel<F, N, Groups, Each>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                shape::bytes);
  }();
  static_cast<void>(raised);  // a failure shows at the launch
  launch_clusters(wide_product_kernel<F, N, Groups, Each>, a.split, blocks, shape::threads, shape::bytes, on, a, x_map,
                  w_map);
}

/// More than 64 rows: tiles of 128 tokens are the faster ones where there are enough to go round; else those of 64,
/// whose columns can be shared out. Nanoseconds of either by a model of what was measured (bench/cuda_products.cu).
bool prefers_narrow(const product& p, const hopper_device& device) {
  const double n = static_cast<double>(p.w->n_padded), k = static_cast<double>(p.w->k_padded);
  const double wide_tiles = std::ceil(n / 256) * ((p.rows + 127) / 128),
               narrow_tiles = std::ceil(n / 128) * ((p.rows + 63) / 64);
  return 5000 + narrow_tiles * k * 0.08 < std::ceil(wide_tiles / device.processors) * k * 15;
}

template <class F>
void launch_width(const product& p, const wide_input& x, const hopper_device& device, const wide_next& next, int split,
                  bool one_order, cudaStream_t on) {
  if constexpr (F::in_place && !F::bytes) {
    // Tiles of 64 weight rows, so that a cluster's blocks have less to send each other; the order of sums is the same.
    if (is_small(*p.w) && p.rows > 32 && p.rows <= fused_rows && !one_order) {
      const small_tiles as = small_tiles_of(p, F::columns, device.processors);
      if (split == 0) split = as.split;
      if (p.output == product_output::silu_bf16)
        return as.tokens == 32 ? launch_wide<F, 32, 1>(p, x, device, next, split, on)
                               : launch_wide<F, 64, 1>(p, x, device, next, split, on);
      return as.tokens == 32 ? launch_wide<F, 32, 1, 1>(p, x, device, next, split, on)
                             : launch_wide<F, 64, 1, 1>(p, x, device, next, split, on);
    }
    if (is_small(*p.w) && p.rows <= 64 && p.output != product_output::silu_bf16) {
      if (p.rows <= narrow_rows && !one_order) return launch_wide<F, narrow_rows, 1, 1>(p, x, device, next, split, on);
      if (p.rows <= 32) return launch_wide<F, 32, 1, 1>(p, x, device, next, split, on);
      return launch_wide<F, 64, 1, 1>(p, x, device, next, split, on);
    }
  }
  if (p.rows <= narrow_rows && !(F::in_place && one_order))
    launch_wide<F, narrow_rows, 1>(p, x, device, next, split, on);
  else if (p.rows <= 32) launch_wide<F, 32, 1>(p, x, device, next, split, on);
  else if (F::in_place || p.rows <= 64 || one_order || prefers_narrow(p, device))
    launch_wide<F, 64, 1>(p, x, device, next, split, on);
  else if constexpr (!F::in_place) launch_wide<F, 128, 2>(p, x, device, next, split, on);
}

const hopper_device& this_device() {
  static const hopper_device device = find_hopper();
  return device;
}

/// 16 threads have 64 columns of a row, four each, as in store_tile.
__global__ void __launch_bounds__(256) prepare_x_blocks(product p, int k, int k_out, wide_next to) {
  let_successor_start();
  const int row = blockIdx.y, c = static_cast<int>(blockIdx.x * 256 + threadIdx.x) * 4;
  if (c / 64 * 64 >= k_out) return;
  float4 v = {}, gain = {};
  if (c < k && !p.x) gain = *reinterpret_cast<const float4*>(p.gain + c);  // nobody writes it
  wait_for_predecessor();
  if (c < k && p.x) {
    const uint2 raw = *reinterpret_cast<const uint2*>(p.x + row * p.x_stride + c);
    v = {__uint_as_float(raw.x << 16), __uint_as_float(raw.x & 0xffff0000u), __uint_as_float(raw.y << 16),
         __uint_as_float(raw.y & 0xffff0000u)};
  } else if (c < k) {
    v = *reinterpret_cast<const float4*>(p.hidden + row * p.x_stride + c);
  }
  if (p.x) store_next(to, row, c, v, c < k_out);
  else store_next_normed(to, row, c, v, gain, c < k_out);
}

}  // namespace

void prepare_blocks(const product& p, const wide_next& to, cudaStream_t on) {
  const int k = static_cast<int>(p.w->cols), k_out = to.bytes ? static_cast<int>(p.w->k_padded) : k;
  launch(prepare_x_blocks, dim3((k_out + 1023) / 1024, p.rows), dim3(256), 0, on, p, k, k_out, to);
}

bool wide_serves(const product& p) {
  const device_matrix& w = *p.w;
  const std::int64_t x_stride = w.type == weight_type::fp8 ? w.k_padded : p.x ? p.x_stride : w.cols;
  return this_device().encode && w.type != weight_type::f16 && w.rows % 4 == 0 && p.out_stride % 4 == 0 &&
         x_stride % 16 == 0 && (p.output != product_output::silu_bf16 || w.rows % 128 == 0);
}

bool wide_shares_much(const product& p) { return split_of(p, columns_of(p.w->type), this_device().processors) > 4; }

void wide_product(const product& p, const wide_input& x, cudaStream_t on, const wide_next& next, int split,
                  bool one_order) {
  const hopper_device& device = this_device();
  const device_matrix& w = *p.w;
  switch (w.type) {
    case weight_type::bf16: launch_width<wide::bf16_rows>(p, x, device, next, split, one_order, on); break;
    case weight_type::fp8: launch_width<wide::fp8_rows>(p, x, device, next, split, one_order, on); break;
    case weight_type::q4_0: launch_width<wide::q4_0>(p, x, device, next, split, one_order, on); break;
    case weight_type::q4_1: launch_width<wide::q4_1>(p, x, device, next, split, one_order, on); break;
    case weight_type::q8_0: launch_width<wide::q8_0>(p, x, device, next, split, one_order, on); break;
    case weight_type::q8_16: launch_width<wide::q8_16>(p, x, device, next, split, one_order, on); break;
    case weight_type::q8_1: launch_width<wide::q8_1>(p, x, device, next, split, one_order, on); break;
    case weight_type::f16: break;  // see wide_serves
  }
}

}  // namespace troupe::kernels::cuda
