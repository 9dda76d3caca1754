// KV blocks between a device's arena and pinned host memory, each way on a stream of its own beside those of the steps.
// Knows no tree and no sequence. Shows no CUDA type; in a build without CUDA it says so.
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/kv_copies.hpp"

namespace troupe::kernels::cuda {

/// Of an arena that a lane of this device made. Pins the memory, which takes a second for some GiB.
result<std::unique_ptr<kv_copies>> make_kv_copies(kv_arena& kv, std::int64_t bytes);

}  // namespace troupe::kernels::cuda
