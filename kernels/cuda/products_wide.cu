// Launches of the wgmma kernel: the tile's width from the rows, the tensor maps of x and of row-major weights.
#include <algorithm>
#include <cmath>

#include "kernels/cuda/wide_products.cuh"

namespace troupe::kernels::cuda {
namespace {

using encode_tiled = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*, const cuuint64_t*,
                                  const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave, CUtensorMapSwizzle,
                                  CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

encode_tiled find_encode_tiled() {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult status{};
  const auto asked = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &status);
  return asked == cudaSuccess && status == cudaDriverEntryPointSuccess ? reinterpret_cast<encode_tiled>(found) : nullptr;
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
  encode(&map, bytes ? CU_TENSOR_MAP_DATA_TYPE_UINT8 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<void*>(data), sizes,
         strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
         CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return map;
}

/// As launch() of device.hpp, in clusters.
template <class Kernel>
void launch_clusters(Kernel kernel, int cluster, int blocks, int threads, int shared_bytes, cudaStream_t on,
                     const wide_arguments& a, const CUtensorMap& x_map, const CUtensorMap& w_map) {
  cudaLaunchAttribute wanted[2] = {};
  wanted[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  wanted[0].val.programmaticStreamSerializationAllowed = 1;
  wanted[1].id = cudaLaunchAttributeClusterDimension;
  wanted[1].val.clusterDim.x = static_cast<unsigned>(cluster);
  wanted[1].val.clusterDim.y = wanted[1].val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(blocks);
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared_bytes;
  config.stream = on;
  config.attrs = wanted;
  config.numAttrs = 2;
  static_cast<void>(cudaLaunchKernelEx(&config, kernel, a, x_map, w_map));
}

template <class F, int N, int Groups>
void launch_wide(const product& p, const wide_input& x, const hopper_device& device, int split, cudaStream_t on) {
  using shape = wide_shape<F, N, Groups>;
  const device_matrix& w = *p.w;
  const CUtensorMap x_map = map_of(device.encode, x.data, F::bytes, p.rows, F::bytes ? w.k_padded : w.cols, x.stride, N);
  CUtensorMap w_map{};
  if (F::in_place) w_map = map_of(device.encode, w.data.data(), F::bytes, w.n_padded, w.k_padded, w.k_padded, 64);
  const bool silu = p.output == product_output::silu_bf16;
  wide_arguments a{};
  a.data = w.data.as<const std::uint8_t>();
  a.scales = w.scales.as<const std::uint8_t>();
  if (F::bytes) a.row_scale = w.scales.as<const float>();
  a.x_scale = x.scales;
  a.n = static_cast<int>(w.rows);
  a.half64 = silu ? a.n / 128 : 0;
  a.n64 = static_cast<int>(w.n_padded / 64);
  a.groups = static_cast<int>(w.k_padded / F::columns);
  a.rows = p.rows;
  a.weight_tiles = silu ? (a.half64 + Groups - 1) / Groups : (a.n64 + 2 * Groups - 1) / (2 * Groups);
  a.token_tiles = (p.rows + N - 1) / N;
  a.split = 1;
  int blocks = std::min(device.processors, a.weight_tiles * a.token_tiles);
  if (Groups == 1) {
    // Enough blocks to keep most of the processors reading, and two an SM where columns are many; from the matrix alone.
    // Not so for fp8: clusters of 8 are a little more than fit at once, and 64 rows take 29.8 us for 25.7.
    const auto may_double = [&] { return a.split < 8 && a.groups >= 4 * a.split; };
    while (may_double() && a.weight_tiles * a.split < device.processors * 3 / 4) a.split *= 2;
    if (!F::bytes && may_double() && a.weight_tiles * a.split <= device.processors && w.k_padded >= 3072 * a.split) a.split *= 2;
    if (split > 0) a.split = split;
    blocks = a.weight_tiles * a.token_tiles * a.split;
  }
  a.out = p.out;
  a.out_stride = p.out_stride;
  a.output = p.output;
  static const cudaError_t raised = [] {
    cudaFuncSetAttribute(wide_product_kernel<F, N, Groups>, cudaFuncAttributePreferredSharedMemoryCarveout,
                         cudaSharedmemCarveoutMaxShared);
    return cudaFuncSetAttribute(wide_product_kernel<F, N, Groups>, cudaFuncAttributeMaxDynamicSharedMemorySize, shape::bytes);
  }();
  static_cast<void>(raised);  // a failure shows at the launch
  launch_clusters(wide_product_kernel<F, N, Groups>, a.split, blocks, shape::threads, shape::bytes, on, a, x_map, w_map);
}

/// More than 64 rows: tiles of 128 tokens are the faster ones where there are enough to go round; else those of 64, whose
/// columns can be shared out. Nanoseconds of either by a model of what was measured (bench/cuda_products.cu).
bool prefers_narrow(const product& p, const hopper_device& device) {
  const double n = static_cast<double>(p.w->n_padded), k = static_cast<double>(p.w->k_padded);
  const double wide_tiles = std::ceil(n / 256) * ((p.rows + 127) / 128), narrow_tiles = std::ceil(n / 128) * ((p.rows + 63) / 64);
  return 5000 + narrow_tiles * k * 0.08 < std::ceil(wide_tiles / device.processors) * k * 15;
}

template <class F>
void launch_width(const product& p, const wide_input& x, const hopper_device& device, int split, bool one_order, cudaStream_t on) {
  if (p.rows <= 16) launch_wide<F, 16, 1>(p, x, device, split, on);
  else if (p.rows <= 32) launch_wide<F, 32, 1>(p, x, device, split, on);
  else if (F::in_place || p.rows <= 64 || one_order || prefers_narrow(p, device)) launch_wide<F, 64, 1>(p, x, device, split, on);
  else if constexpr (!F::in_place) launch_wide<F, 128, 2>(p, x, device, split, on);
}

}  // namespace

bool wide_product(const product& p, const wide_input& x, cudaStream_t on, int split, bool one_order) {
  static const hopper_device device = find_hopper();
  const device_matrix& w = *p.w;
  const bool fits = w.rows % 4 == 0 && p.out_stride % 4 == 0 && x.stride % 16 == 0 &&
                    (p.output != product_output::silu_bf16 || w.rows % 128 == 0);
  if (!device.encode || !fits) return false;
  switch (w.type) {
    case weight_type::bf16: launch_width<wide::bf16_rows>(p, x, device, split, one_order, on); return true;
    case weight_type::fp8: launch_width<wide::fp8_rows>(p, x, device, split, one_order, on); return true;
    case weight_type::q4_0: launch_width<wide::q4_0>(p, x, device, split, one_order, on); return true;
    case weight_type::q4_1: launch_width<wide::q4_1>(p, x, device, split, one_order, on); return true;
    case weight_type::q8_0: launch_width<wide::q8_0>(p, x, device, split, one_order, on); return true;
    case weight_type::q8_16: launch_width<wide::q8_16>(p, x, device, split, one_order, on); return true;
    case weight_type::q8_1: launch_width<wide::q8_1>(p, x, device, split, one_order, on); return true;
    default: return false;
  }
}

}  // namespace troupe::kernels::cuda
