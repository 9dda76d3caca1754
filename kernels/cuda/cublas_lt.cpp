// Loads libcublasLt by name and keeps a plan for every shape seen, of rows for every bucket of them.
#include "kernels/cuda/cublas_lt.hpp"

#include <cublasLt.h>
#include <dlfcn.h>

#include <array>
#include <map>
#include <string>
#include <tuple>

namespace troupe::kernels::cuda {
namespace {

// fp8: the unit keeps about 14 bits of a sum. So few columns may stay in it, which costs 0.002 of a product's norm
// where rounding to e4m3 costs 0.037; of more, short sums join in f32.
constexpr std::int32_t most_fast_columns = 8192;

constexpr std::int64_t workspace_bytes = 32 << 20;  // what NVIDIA advises for Hopper

struct functions {
  decltype(&cublasLtCreate) create;
  decltype(&cublasLtDestroy) destroy;
  decltype(&cublasLtMatmul) matmul;
  decltype(&cublasLtMatmulDescCreate) desc_create;
  decltype(&cublasLtMatmulDescDestroy) desc_destroy;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set;
  decltype(&cublasLtMatrixLayoutCreate) layout_create;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy;
  decltype(&cublasLtMatrixLayoutSetAttribute) layout_set;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic;
  decltype(&cublasLtGetVersion) version;
};

template <class F>
bool find(void* library, const char* name, F& into) {
  into = reinterpret_cast<F>(dlsym(library, name));
  return into != nullptr;
}

error failed(const char* what, cublasStatus_t status) {
  return error{errc::internal, std::string("cuBLASLt: ") + what + ": status " + std::to_string(status), {}};
}

class loaded final : public cublas_lt {
public:
  loaded(functions f, cublasLtHandle_t handle, device_buffer workspace)
      : f_(f), handle_(handle), workspace_(std::move(workspace)) {}
  ~loaded() override {
    for (auto& [shape, p] : plans_) release(p);
    f_.destroy(handle_);
  }

  result<void> multiply(const dense_product& p, cudaStream_t on) override {
    auto found = plan_for(p);
    if (!found) return found.why();
    plan& use = **found;
    const auto rows = static_cast<std::uint64_t>(p.rows);
    for (auto layout : {use.x, use.out}) f_.layout_set(layout, CUBLASLT_MATRIX_LAYOUT_COLS, &rows, sizeof rows);
    if (p.inputs == dense_product::element::fp8) {
      f_.desc_set(use.op, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &p.w_scale, sizeof p.w_scale);
      f_.desc_set(use.op, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &p.x_scale, sizeof p.x_scale);
    }
    const float alpha = 1.0f, beta = p.add ? 1.0f : 0.0f;
    const auto status = f_.matmul(handle_, use.op, &alpha, p.w, use.w, p.x, use.x, &beta, p.out, use.out, p.out,
                                  use.out, &use.algorithm, workspace_.data(), workspace_bytes, on);
    if (status != CUBLAS_STATUS_SUCCESS) return failed("multiplying", status);
    return {};
  }

  result<std::int32_t> ways(const dense_product& p) override {
    plan made;
    const auto count = prepare(p, most_library_ways, made);
    release(made);
    return count;
  }
  std::size_t version() const override { return f_.version(); }

private:
  struct plan {
    cublasLtMatmulDesc_t op = nullptr;
    cublasLtMatrixLayout_t w = nullptr, x = nullptr, out = nullptr;
    cublasLtMatmulAlgo_t algorithm{};
  };

  result<plan*> plan_for(const dense_product& p) {
    const std::int32_t range = library_range(p.rows);
    const auto shape = std::make_tuple(static_cast<int>(p.inputs), p.n, p.k, range, p.f32_out, p.way, p.w_stride,
                                       p.x_stride, p.out_stride);
    auto found = plans_.find(shape);
    if (found == plans_.end()) {
      plan made;
      dense_product largest = p;
      largest.rows = range;
      if (auto done = prepare(largest, p.way + 1, made); !done) {
        release(made);
        return done.why();
      }
      found = plans_.emplace(shape, made).first;
    }
    return &found->second;
  }

  void release(plan& p) {
    if (p.op) f_.desc_destroy(p.op);
    for (auto layout : {p.w, p.x, p.out})
      if (layout) f_.layout_destroy(layout);
  }

  // The library's matrices are column-major: ours are their transposes, so out^T = w . x^T.
  /// Asks for so many ways; returns how many there are.
  result<std::int32_t> prepare(const dense_product& p, int asked, plan& made) {
    const cudaDataType in = p.inputs == dense_product::element::fp8   ? CUDA_R_8F_E4M3
                            : p.inputs == dense_product::element::f16 ? CUDA_R_16F
                                                                      : CUDA_R_16BF;
    const cudaDataType out = p.f32_out ? CUDA_R_32F : CUDA_R_16BF;
    auto status = f_.desc_create(&made.op, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    if (status == CUBLAS_STATUS_SUCCESS) status = f_.layout_create(&made.w, in, p.k, p.n, p.w_stride);
    if (status == CUBLAS_STATUS_SUCCESS) status = f_.layout_create(&made.x, in, p.k, p.rows, p.x_stride);
    if (status == CUBLAS_STATUS_SUCCESS) status = f_.layout_create(&made.out, out, p.n, p.rows, p.out_stride);
    if (status != CUBLAS_STATUS_SUCCESS) return failed("describing a product", status);
    const cublasOperation_t transposed = CUBLAS_OP_T;
    f_.desc_set(made.op, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed);
    if (p.inputs == dense_product::element::fp8) {
      const std::int32_t mode = CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
      f_.desc_set(made.op, CUBLASLT_MATMUL_DESC_A_SCALE_MODE, &mode, sizeof mode);
      f_.desc_set(made.op, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, &mode, sizeof mode);
      f_.desc_set(made.op, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &p.w_scale, sizeof p.w_scale);
      f_.desc_set(made.op, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &p.x_scale, sizeof p.x_scale);
      const std::int8_t fast = p.k <= most_fast_columns;
      f_.desc_set(made.op, CUBLASLT_MATMUL_DESC_FAST_ACCUM, &fast, sizeof fast);
    }
    cublasLtMatmulPreference_t preference = nullptr;
    if (status = f_.preference_create(&preference); status != CUBLAS_STATUS_SUCCESS)
      return failed("a preference", status);
    const std::uint64_t bytes = workspace_bytes;
    f_.preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof bytes);
    std::array<cublasLtMatmulHeuristicResult_t, most_library_ways> best{};
    int count = 0;
    status = f_.heuristic(handle_, made.op, made.w, made.x, made.out, made.out, preference, asked, best.data(), &count);
    f_.preference_destroy(preference);
    if (status != CUBLAS_STATUS_SUCCESS || count == 0) return failed("no way to multiply this shape", status);
    made.algorithm = best[static_cast<std::size_t>(p.way < count ? p.way : 0)].algo;
    return count;
  }

  functions f_;
  cublasLtHandle_t handle_;
  device_buffer workspace_;
  std::map<std::tuple<int, int, int, int, bool, int, std::int64_t, std::int64_t, std::int64_t>, plan> plans_;
};

}  // namespace

/// Numbers of rows that one algorithm is asked for: a chunk of a number not seen before would else cost the thread that
/// launches up to 25 ms, since another algorithm is often another kernel to load.
std::int32_t library_range(std::int32_t rows) {
  const std::int32_t step = rows <= 64 ? 8 : rows <= 512 ? 64 : rows <= 2048 ? 256 : 1024;
  return (rows + step - 1) / step * step;
}

result<std::unique_ptr<cublas_lt>> load_cublas_lt() {
  void* library = nullptr;
  for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12", "/usr/local/cuda/lib64/libcublasLt.so"})
    if ((library = dlopen(name, RTLD_NOW | RTLD_LOCAL))) break;
  if (!library) return error{errc::unsupported, "cuBLASLt is not on this machine", {}};
  functions f{};
  const bool complete =
      find(library, "cublasLtCreate", f.create) && find(library, "cublasLtDestroy", f.destroy) &&
      find(library, "cublasLtMatmul", f.matmul) && find(library, "cublasLtMatmulDescCreate", f.desc_create) &&
      find(library, "cublasLtMatmulDescDestroy", f.desc_destroy) &&
      find(library, "cublasLtMatmulDescSetAttribute", f.desc_set) &&
      find(library, "cublasLtMatrixLayoutCreate", f.layout_create) &&
      find(library, "cublasLtMatrixLayoutDestroy", f.layout_destroy) &&
      find(library, "cublasLtMatrixLayoutSetAttribute", f.layout_set) &&
      find(library, "cublasLtMatmulPreferenceCreate", f.preference_create) &&
      find(library, "cublasLtMatmulPreferenceDestroy", f.preference_destroy) &&
      find(library, "cublasLtMatmulPreferenceSetAttribute", f.preference_set) &&
      find(library, "cublasLtMatmulAlgoGetHeuristic", f.heuristic) && find(library, "cublasLtGetVersion", f.version);
  if (!complete) return error{errc::unsupported, "cuBLASLt lacks a function that Troupe needs", {}};
  auto workspace = allocate_device(workspace_bytes);
  if (!workspace) return workspace.why();
  cublasLtHandle_t handle = nullptr;
  if (const auto status = f.create(&handle); status != CUBLAS_STATUS_SUCCESS) return failed("starting", status);
  return std::unique_ptr<cublas_lt>(std::make_unique<loaded>(f, handle, std::move(*workspace)));
}

}  // namespace troupe::kernels::cuda
