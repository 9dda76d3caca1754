// What may be pinned, and the threads that copy.
#include "actors/kv_store/host_blocks.hpp"

#include <string>

#include "base/log.hpp"
#include "base/machine.hpp"

namespace troupe::actors {
namespace {

/// Pinned memory cannot be swapped: an eighth of what is free is left to others.
result<void> check_host_memory(std::int64_t bytes) {
  const auto available = static_cast<std::int64_t>(base::read_memory_limits().available);
  if (bytes <= available / 8 * 7) return {};
  const auto gib = [](std::int64_t n) {
    return std::to_string(n >> 30) + "." + std::to_string((n & ((1 << 30) - 1)) * 10 >> 30) + " GiB";
  };
  return error{errc::out_of_memory,
               "Of host memory " + gib(bytes) + " are wanted for KV blocks that leave the GPU, and " +
                   gib(available / 8 * 7) + " can be had; give less with --host-kv-gib.",
               "host_kv_bytes"};
}

}  // namespace

result<host_blocks> make_host_blocks(const kernels::kv_copies_maker& make, kernels::kv_arena& kv, std::int64_t bytes,
                                     bool prefix_cache) {
  if (bytes <= 0) return host_blocks{};
  if (!prefix_cache)
    return error{errc::invalid_argument, "Blocks go to host memory for the prefix cache, which is off.",
                 "host_kv_bytes"};
  if (!make) {
    base::log(base::log_level::warning, "engine", "K and V lie in host memory anyway: no more of it is taken for them");
    return host_blocks{};
  }
  if (auto r = check_host_memory(bytes); !r) return r.why();
  auto copies = make(kv, bytes);
  if (!copies) return copies.why();
  return host_blocks{*std::move(copies), std::make_shared<lane_thread>(), std::make_shared<lane_thread>()};
}

}  // namespace troupe::actors
