// Takes the arena's memory. Knows no thread and no arithmetic.
#include "kernels/cpu/kv_arena.hpp"

namespace troupe::kernels {

std::int64_t cpu_kv_block_bytes(const kv_shape& shape) noexcept {
  return std::int64_t{shape.layers} * shape.kv_heads * kv_unit(shape.head_dim).bytes();
}

result<std::unique_ptr<kv_arena>> make_cpu_kv_arena(const kv_shape& shape, std::int32_t blocks) {
  if (shape.layers < 1 || shape.kv_heads < 1 || shape.head_dim < 1 || blocks < 1)
    return error{errc::invalid_argument, "a KV arena needs layers, heads, a head size and blocks", {}};
  std::int64_t bytes = 0;
  if (__builtin_mul_overflow(cpu_kv_block_bytes(shape), std::int64_t{blocks}, &bytes))
    return error{errc::out_of_memory, "the KV arena is larger than an address space", {}};
  auto storage = memory::allocate_host(bytes);
  if (!storage) return storage.why();
  auto arena = std::make_unique<cpu_kv_arena>();
  arena->shape = shape;
  arena->blocks = blocks;
  arena->storage = std::move(*storage);
  return std::unique_ptr<kv_arena>{std::move(arena)};
}

}  // namespace troupe::kernels
