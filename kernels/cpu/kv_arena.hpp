// Where K and V of a CPU lane lie. Knows the layout, not what is computed with it.
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/lane.hpp"
#include "memory/buffer.hpp"

namespace troupe::kernels {

/// [layer][kv_head][block]{K [head_dim][16], V [16][head_dim]}, f16: the blocks of one head lie side by side, so that
/// a sequence with neighbouring blocks is read as one stream.
class cpu_kv_arena final : public kv_arena {
public:
  memory::buffer storage;
  /// f16 numbers from one block of a head to the next.
  std::int64_t block_stride() const noexcept { return 2ll * shape.head_dim * kv_shape::block_tokens; }
  std::uint16_t* head(std::int32_t layer, std::int32_t kv_head) const noexcept {
    return static_cast<std::uint16_t*>(storage.data()) +
           (std::int64_t{layer} * shape.kv_heads + kv_head) * blocks * block_stride();
  }
};

/// Of one block in all layers.
std::int64_t cpu_kv_block_bytes(const kv_shape& shape) noexcept;

/// invalid_argument: a count under 1; out_of_memory. Pages are taken when they are first written.
result<std::unique_ptr<kv_arena>> make_cpu_kv_arena(const kv_shape& shape, std::int32_t blocks);

}  // namespace troupe::kernels
