// Moves KV blocks between a lane's arena and host memory of its own. Knows no sequence and no tree.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include <troupe/result.hpp>

#include "kernels/lane.hpp"
#include "memory/host_tier.hpp"

namespace troupe::kernels {

class kv_copies {
public:
  virtual ~kv_copies() = default;
  /// Returns when the bytes are there. Any thread, beside steps that touch other blocks; one call of each way at a
  /// time. After an error nobody knows what the targets hold.
  virtual result<void> make(memory::copy_way way, std::span<const memory::block_copy> copies) = 0;

  std::int32_t places = 0;       ///< blocks that there is room for
  std::int64_t block_bytes = 0;  ///< of one copy
};

/// With so much host memory for blocks of the arena, which must outlive it. Errors: out_of_memory, also where not one
/// block fits.
using kv_copies_maker = std::function<result<std::unique_ptr<kv_copies>>(kv_arena&, std::int64_t bytes)>;

}  // namespace troupe::kernels
