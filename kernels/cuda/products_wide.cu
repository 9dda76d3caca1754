// Launches of the many-rows kernel for packed weights: the tile's width from the rows, the tensor map of x.
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

bool hopper_device(int& processors) {
  int device = 0, major = 0, minor = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  return major == 9 && minor == 0;
}

template <class F, int N>
void launch_wide(const product& p, encode_tiled encode, int processors, cudaStream_t on) {
  using shape = wide_shape<F, N>;
  const device_matrix& w = *p.w;
  CUtensorMap x_map;
  const cuuint64_t sizes[2] = {static_cast<cuuint64_t>(w.cols), static_cast<cuuint64_t>(p.rows)};
  const cuuint64_t strides[1] = {static_cast<cuuint64_t>(p.x_stride) * 2};
  const cuuint32_t box[2] = {64, N}, steps[2] = {1, 1};
  encode(&x_map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<bf16*>(p.x), sizes, strides, box, steps,
         CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
         CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  const bool silu = p.output == product_output::silu_bf16;
  wide_arguments a{};
  a.data = w.data.as<const std::uint8_t>();
  a.scales = w.scales.as<const std::uint8_t>();
  a.n = static_cast<int>(w.rows);
  a.half64 = silu ? a.n / 128 : 0;
  a.n64 = static_cast<int>(w.n_padded / 64);
  a.groups = static_cast<int>(w.k_padded / 128);
  a.rows = p.rows;
  a.weight_tiles = silu ? (a.half64 + 1) / 2 : (a.n64 + 3) / 4;
  a.token_tiles = (p.rows + N - 1) / N;
  a.out = p.out;
  a.out_stride = p.out_stride;
  a.output = p.output;
  static const cudaError_t raised =
      cudaFuncSetAttribute(wide_product_kernel<F, N>, cudaFuncAttributeMaxDynamicSharedMemorySize, shape::bytes);
  static_cast<void>(raised);  // a failure shows at the launch
  launch(wide_product_kernel<F, N>, dim3(std::min(processors, a.weight_tiles * a.token_tiles)), dim3(384), shape::bytes, on,
         a, x_map);
}

template <class F>
void launch_width(const product& p, encode_tiled encode, int processors, cudaStream_t on) {
  if (p.rows <= 32) launch_wide<F, 32>(p, encode, processors, on);
  else launch_wide<F, 128>(p, encode, processors, on);
}

}  // namespace

bool wide_product(const product& p, cudaStream_t on) {
  static const encode_tiled encode = find_encode_tiled();
  static int processors = 0;
  static const bool hopper = hopper_device(processors);
  const device_matrix& w = *p.w;
  const bool aligned = p.x && p.x_stride % 8 == 0 && w.rows % 4 == 0 && p.out_stride % 4 == 0 &&
                       (p.output != product_output::silu_bf16 || w.rows % 128 == 0);
  if (!encode || !hopper || !aligned) return false;
  switch (w.type) {
    case weight_type::q4_0: launch_width<wide::q4_0>(p, encode, processors, on); return true;
    case weight_type::q4_1: launch_width<wide::q4_1>(p, encode, processors, on); return true;
    case weight_type::q8_0: launch_width<wide::q8_0>(p, encode, processors, on); return true;
    default: return false;
  }
}

}  // namespace troupe::kernels::cuda
