// Where a token's K and V lie in the device's paged KV arena. Knows no sequence.
//
// The arena is an array of blocks of 16 tokens; a block holds a tile for every [layer][K, V][kv_head], so that moving a
// block is one copy, and a tile reaches shared memory by one plain bulk copy.
//
// bf16: a tile is [head_dim / 64][16 tokens][64 dims], and the eight 16-byte chunks of a token's 128 bytes are
// permuted: chunk c lies at c ^ (token % 8). That is the 128-byte swizzle which ldmatrix reads without bank conflicts
// and wgmma reads directly.
//
// fp8, q8_0: a tile is [head_dim / 16] squares of 16 x 16 bytes, K's [token][dim], V's [dim][token], in the order in
// which the lanes of a warp hold the left operand of mma m16n8k16: lane l reads 16 bytes, two squares, and widens them.
// Behind them a bf16 scale for each token. K is turned by a Hadamard matrix (narrow_kv.cuh), V is not.
#pragma once

#include <cstddef>
#include <cstdint>

namespace troupe::kernels::cuda {

#ifdef __CUDACC__
#define TROUPE_HOST_DEVICE __host__ __device__
#else
#define TROUPE_HOST_DEVICE
#endif

enum class kv_format : std::uint8_t {
  bf16,
  fp8,   ///< e4m3, a scale a token and head
  q8_0,  ///< integers + 128, a scale a token and head
};

struct kv_layout {
  std::byte* base = nullptr;
  std::int32_t layers = 0;
  std::int32_t kv_heads = 0;
  std::int32_t head_dim = 0;  ///< 64 or 128
  kv_format format = kv_format::bf16;

  static constexpr std::int32_t block_tokens = 16;
  TROUPE_HOST_DEVICE static constexpr std::int32_t tile_bytes_of(std::int32_t head_dim, kv_format format) {
    return format == kv_format::bf16 ? block_tokens * head_dim * 2 : block_tokens * head_dim + block_tokens * 2;
  }
  TROUPE_HOST_DEVICE std::int32_t tile_bytes() const { return tile_bytes_of(head_dim, format); }
  TROUPE_HOST_DEVICE std::int64_t block_bytes() const { return std::int64_t{2} * layers * kv_heads * tile_bytes(); }
  /// The K tile of a block; its V tile lies `value_offset()` bytes behind.
  TROUPE_HOST_DEVICE std::byte* tile(std::int32_t block, std::int32_t layer, std::int32_t head) const {
    return base + block * block_bytes() + (std::int64_t{2} * layer * kv_heads + head) * tile_bytes();
  }
  TROUPE_HOST_DEVICE std::int32_t value_offset() const { return kv_heads * tile_bytes(); }
  /// bf16: bytes from a tile's start to the 16-byte chunk with dims 8 * chunk ... of token `token` of the block.
  TROUPE_HOST_DEVICE static constexpr std::int32_t chunk_offset(std::int32_t token, std::int32_t chunk) {
    return (chunk >> 3) * (block_tokens * 128) + token * 128 + (((chunk & 7) ^ (token & 7)) << 4);
  }
  /// Bytes: from a tile's start to row and column of a square.
  TROUPE_HOST_DEVICE static constexpr std::int32_t square_offset(std::int32_t square, std::int32_t row,
                                                                 std::int32_t column) {
    const std::int32_t lane = row % 8 * 4 + column % 8 / 2;
    return square / 2 * 512 + lane * 16 + square % 2 * 8 + row / 8 * 4 + column / 8 * 2 + column % 2;
  }
  TROUPE_HOST_DEVICE static constexpr std::int32_t byte_offset(bool value, std::int32_t token, std::int32_t dim) {
    return value ? square_offset(dim / 16, dim % 16, token) : square_offset(dim / 16, token, dim % 16);
  }
  TROUPE_HOST_DEVICE static constexpr std::int32_t scale_offset(std::int32_t head_dim, std::int32_t token) {
    return block_tokens * head_dim + token * 2;
  }
};

}  // namespace troupe::kernels::cuda
