// Where K and V of a CPU lane lie. Knows the layout, not what is computed with it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernels/cpu/kv_unit.hpp"
#include "kernels/lane.hpp"
#include "memory/buffer.hpp"

namespace troupe::kernels {

/// [block][layer][kv_head] of units (kv_unit.hpp): a block is one run of bytes, copied, kept or sent away as one. Its
/// 16 tokens fill a good part of a huge page, so that few more are touched than are used.
class cpu_kv_arena final : public kv_arena {
public:
  memory::buffer storage;
  kv_type type = kv_type::i16;
  std::byte* unit(std::int64_t block, std::int32_t layer, std::int32_t kv_head) const noexcept {
    const std::int64_t index = (block * shape.layers + layer) * shape.kv_heads + kv_head;
    return static_cast<std::byte*>(storage.data()) + index * kv_unit(shape.head_dim, type).bytes();
  }
};

/// Of one block in all layers.
std::int64_t cpu_kv_block_bytes(const kv_shape& shape, kv_type type) noexcept;

/// invalid_argument: a count under 1; unsupported: heads too large for the type; out_of_memory. Pages are taken when
/// they are first written.
result<std::unique_ptr<kv_arena>> make_cpu_kv_arena(const kv_shape& shape, kv_type type, std::int32_t blocks);

}  // namespace troupe::kernels
