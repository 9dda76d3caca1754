// What a build without CUDA says when asked for it.
#include "kernels/cuda/cuda_lane.hpp"
#include "kernels/cuda/kv_copies.hpp"
#include "kernels/cuda/trace_range.hpp"

namespace troupe::kernels::cuda {

bool built_with_cuda() noexcept { return false; }

namespace {
error absent() {
  return {errc::unsupported, "This build has no CUDA lane; configure with -DTROUPE_CUDA=ON where nvcc is installed.",
          "device"};
}
}  // namespace

result<device_facts> find_device() { return absent(); }
result<std::unique_ptr<cuda_lane>> make_cuda_lane(const cuda_wish&) { return absent(); }
result<std::unique_ptr<kv_copies>> make_kv_copies(kv_arena&, std::int64_t) { return absent(); }

trace_range::trace_range(const char*) noexcept {}
trace_range::~trace_range() = default;

}  // namespace troupe::kernels::cuda
