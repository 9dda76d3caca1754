// Where a token's K and V lie in the device's paged KV arena. Knows no sequence.
//
// The arena is an array of blocks of 16 tokens; a block holds a tile for every [layer][K, V][kv_head], so that moving a
// block is one copy. A tile is [head_dim / 64][16 tokens][64 dims] of bf16, and the eight 16-byte chunks of a token's
// 128 bytes are permuted: chunk c lies at c ^ (token % 8). That is the 128-byte swizzle which ldmatrix reads without bank
// conflicts and wgmma reads directly, so that a tile reaches shared memory by one plain bulk copy.
#pragma once

#include <cstddef>
#include <cstdint>

namespace troupe::kernels::cuda {

#ifdef __CUDACC__
#define TROUPE_HOST_DEVICE __host__ __device__
#else
#define TROUPE_HOST_DEVICE
#endif

struct kv_layout {
  std::byte* base = nullptr;
  std::int32_t layers = 0;
  std::int32_t kv_heads = 0;
  std::int32_t head_dim = 0;  ///< 64 or 128

  static constexpr std::int32_t block_tokens = 16;
  TROUPE_HOST_DEVICE std::int32_t tile_bytes() const { return block_tokens * head_dim * 2; }
  TROUPE_HOST_DEVICE std::int64_t block_bytes() const { return std::int64_t{2} * layers * kv_heads * tile_bytes(); }
  /// The K tile of a block; its V tile lies `value_offset()` bytes behind.
  TROUPE_HOST_DEVICE std::byte* tile(std::int32_t block, std::int32_t layer, std::int32_t head) const {
    return base + block * block_bytes() + (std::int64_t{2} * layer * kv_heads + head) * tile_bytes();
  }
  TROUPE_HOST_DEVICE std::int32_t value_offset() const { return kv_heads * tile_bytes(); }
  /// Bytes from a tile's start to the 16-byte chunk with dims 8 * chunk ... of token `token` of the block.
  TROUPE_HOST_DEVICE static constexpr std::int32_t chunk_offset(std::int32_t token, std::int32_t chunk) {
    return (chunk >> 3) * (block_tokens * 128) + token * 128 + (((chunk & 7) ^ (token & 7)) << 4);
  }
};

}  // namespace troupe::kernels::cuda
