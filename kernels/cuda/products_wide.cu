// Launches of the wgmma kernel: the tile's width from the rows, the tensor maps of x and of row-major weights.
#include <algorithm>

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

/// A map of [rows, cols], boxes of 64 columns.
CUtensorMap map_of(encode_tiled encode, const void* data, bool bytes, std::int64_t rows, std::int64_t cols,
                   std::int64_t stride, int box_rows) {
  CUtensorMap map;
  const cuuint64_t sizes[2] = {static_cast<cuuint64_t>(cols), static_cast<cuuint64_t>(rows)};
  const cuuint64_t strides[1] = {static_cast<cuuint64_t>(stride) * (bytes ? 1 : 2)};
  const cuuint32_t box[2] = {64, static_cast<cuuint32_t>(box_rows)}, steps[2] = {1, 1};
  encode(&map, bytes ? CU_TENSOR_MAP_DATA_TYPE_UINT8 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<void*>(data), sizes,
         strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, bytes ? CU_TENSOR_MAP_SWIZZLE_NONE : CU_TENSOR_MAP_SWIZZLE_128B,
         CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return map;
}

template <class F, int N, int Groups>
void launch_wide(const product& p, const wide_workspace& space, const hopper_device& device, cudaStream_t on) {
  using shape = wide_shape<F, N, Groups>;
  const device_matrix& w = *p.w;
  const CUtensorMap x_map = map_of(device.encode, p.x, false, p.rows, w.cols, p.x_stride, N);
  CUtensorMap w_map{};
  if (F::from != wide::source::units)
    w_map = map_of(device.encode, w.data.data(), w.type == weight_type::fp8, w.n_padded, w.k_padded, w.k_padded, 64);
  const bool silu = p.output == product_output::silu_bf16;
  wide_arguments a{};
  a.data = w.data.as<const std::uint8_t>();
  a.scales = w.scales.as<const std::uint8_t>();
  if (w.type == weight_type::fp8) a.row_scale = w.scales.as<const float>();
  a.n = static_cast<int>(w.rows);
  a.half64 = silu ? a.n / 128 : 0;
  a.n64 = static_cast<int>(w.n_padded / 64);
  a.groups = static_cast<int>(w.k_padded / F::columns);
  a.rows = p.rows;
  a.weight_tiles = silu ? (a.half64 + Groups - 1) / Groups : (a.n64 + 2 * Groups - 1) / (2 * Groups);
  a.token_tiles = (p.rows + N - 1) / N;
  int blocks = std::min(device.processors, a.weight_tiles * a.token_tiles);
  if (Groups == 1) {
    const int stages = a.weight_tiles * a.groups;
    a.run = (stages + device.processors - 1) / device.processors;
    blocks = (stages + a.run - 1) / a.run;
  }
  a.shares = space.shares;
  a.arrived = space.arrived;
  a.out = p.out;
  a.out_stride = p.out_stride;
  a.output = p.output;
  static const cudaError_t raised =
      cudaFuncSetAttribute(wide_product_kernel<F, N, Groups>, cudaFuncAttributeMaxDynamicSharedMemorySize, shape::bytes);
  static const cudaError_t split = cudaFuncSetAttribute(
      wide_product_kernel<F, N, Groups>, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared);
  static_cast<void>(raised), static_cast<void>(split);  // a failure shows at the launch
  launch(wide_product_kernel<F, N, Groups>, dim3(blocks), dim3(shape::threads), shape::bytes, on, a, x_map, w_map);
}

template <class F>
void launch_width(const product& p, const wide_workspace& space, const hopper_device& device, cudaStream_t on) {
  if (p.rows <= 16) launch_wide<F, 16, 1>(p, space, device, on);
  else if (p.rows <= 32) launch_wide<F, 32, 1>(p, space, device, on);
  else if (p.rows <= 64) launch_wide<F, 64, 1>(p, space, device, on);
  else launch_wide<F, 128, 2>(p, space, device, on);
}

}  // namespace

bool wide_product(const product& p, const wide_workspace& space, cudaStream_t on) {
  static const hopper_device device = find_hopper();
  const device_matrix& w = *p.w;
  const bool fits = p.x && p.x_stride % 8 == 0 && w.rows % 4 == 0 && p.out_stride % 4 == 0 &&
                    (p.output != product_output::silu_bf16 || w.rows % 128 == 0);
  if (!device.encode || !fits) return false;
  switch (w.type) {
    case weight_type::bf16: launch_width<wide::bf16_rows>(p, space, device, on); return true;
    case weight_type::fp8: launch_width<wide::fp8_rows>(p, space, device, on); return true;
    case weight_type::q4_0: launch_width<wide::q4_0>(p, space, device, on); return true;
    case weight_type::q4_1: launch_width<wide::q4_1>(p, space, device, on); return true;
    case weight_type::q8_0: launch_width<wide::q8_0>(p, space, device, on); return true;
    default: return false;
  }
}

}  // namespace troupe::kernels::cuda
