// The launches of the few-rows kernel: one shape a weight type, chosen by measurement (bench/cuda_products.cu).
#include "kernels/cuda/small_products.cuh"

#include <algorithm>

namespace troupe::kernels::cuda {
namespace {

template <class Use>
auto with_shape(weight_type type, Use use) {
  switch (type) {
    case weight_type::bf16: return use.template operator()<bf16_format, 8, 1>();
    case weight_type::f16: return use.template operator()<f16_format, 8, 1>();
    case weight_type::fp8: return use.template operator()<fp8_format, 3, 2>();
    case weight_type::q8_0: return use.template operator()<q8_0_format, 3, 2>();
    case weight_type::q8_16: return use.template operator()<q8_16_format, 3, 2>();
    case weight_type::q8_1: return use.template operator()<q8_1_format, 3, 2>();
    case weight_type::q4_1: return use.template operator()<q4_1_format, 3, 2>();
    default: return use.template operator()<q4_0_format, 4, 2>();
  }
}

int processors() {
  int device = 0, count = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device);
  return count;
}

}  // namespace

std::int32_t small_product_rows(const device_matrix& w) {
  return with_shape(w.type, [&]<class F, int Depth, int Blocks>() {
    int rows = 8;
    while (rows > 0 && small_shape<F, Depth>::bytes(static_cast<int>(w.k_padded), rows) > 227 * 1024) --rows;
    return rows;
  });
}

void small_product(const product& p, cudaStream_t on) {
  static const int count = processors();
  with_shape(p.w->type, [&]<class F, int Depth, int Blocks>() { launch_small<F, Depth>(p, count, Blocks, on); });
}

}  // namespace troupe::kernels::cuda
