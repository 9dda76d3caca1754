// One GPU as two: streams whose kernels run on multiprocessors of their own (green contexts). Knows no op.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "kernels/cuda/device.hpp"

namespace troupe::kernels::cuda {

/// The contexts live as long as this; its streams are to be given back before it.
class device_parts {
public:
  /// `second` multiprocessors, rounded as the device wants it, for the second stream; all others for the first, which
  /// has the higher priority. unsupported: this driver or device divides nothing.
  static result<std::unique_ptr<device_parts>> divide(std::int32_t second);
  ~device_parts();
  device_parts(const device_parts&) = delete;
  device_parts& operator=(const device_parts&) = delete;

  std::int32_t multiprocessors(std::size_t part) const noexcept { return counts_[part]; }
  /// A stream on part 0 or 1.
  result<stream> make_stream(std::size_t part) const;

private:
  device_parts() = default;
  std::array<void*, 2> contexts_{};  // CUgreenCtx
  std::array<std::int32_t, 2> counts_{};
};

}  // namespace troupe::kernels::cuda
