// Takes the arena's memory. Knows no thread and no arithmetic.
#include "kernels/cpu/kv_arena.hpp"

#include <string>

namespace troupe::kernels {

std::int64_t cpu_kv_block_bytes(const kv_shape& shape, kv_type type) noexcept {
  return std::int64_t{shape.layers} * shape.kv_heads * kv_unit(shape.head_dim, type).bytes();
}

result<std::unique_ptr<kv_arena>> make_cpu_kv_arena(const kv_shape& shape, kv_type type, std::int32_t blocks) {
  if (shape.layers < 1 || shape.kv_heads < 1 || shape.head_dim < 1 || blocks < 1)
    return error{errc::invalid_argument, "a KV arena needs layers, heads, a head size and blocks", {}};
  if (type != kv_type::i16 && shape.head_dim > kv_unit::most_dim)
    return error{errc::unsupported,
                 "KV of type " + std::string(to_string(type)) + " is for heads of up to " +
                     std::to_string(kv_unit::most_dim) + ", and this model's have " + std::to_string(shape.head_dim),
                 "kv_type"};
  std::int64_t bytes = 0;
  if (__builtin_mul_overflow(cpu_kv_block_bytes(shape, type), std::int64_t{blocks}, &bytes))
    return error{errc::out_of_memory, "the KV arena is larger than an address space", {}};
  auto storage = memory::allocate_host(bytes);
  if (!storage) return storage.why();
  auto arena = std::make_unique<cpu_kv_arena>();
  arena->type = type;
  arena->shape = shape;
  arena->blocks = blocks;
  arena->storage = std::move(*storage);
  return std::unique_ptr<kv_arena>{std::move(arena)};
}

}  // namespace troupe::kernels
