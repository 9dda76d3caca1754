// Prefill attention on any tensor core since sm_80: eight warps of 16 query rows of one head, key tiles of 64 tokens by
// cp.async, two ahead; softmax in registers, tile by tile from position 0 (Dao, "FlashAttention-2", 2023). Knows the
// arena's layout; no model.
#include "kernels/cuda/attention_prefill.hpp"
#include "kernels/cuda/warp_tiles.hpp"

namespace troupe::kernels::cuda {
namespace {

constexpr int warps = 8;
constexpr int threads = warps * 32;
constexpr int tile_rows = warps * 16;
static_assert(tile_rows == prefill_rows_a_tile);
constexpr int tile_keys = 64;
constexpr int stages = 2;
constexpr int block_tokens = kv_layout::block_tokens;

template <int D>
struct prefill_room {
  alignas(128) std::byte tiles[stages][2][tile_keys * D * 2];
};

/// Tokens from 64 * tile on; those from `length` on become zeros.
template <int D>
__device__ void fetch_tile(std::byte (&to)[2][tile_keys * D * 2], const attention_call& call, const int* table,
                           int kv_head, int tile, int length) {
  constexpr int chunks = block_tokens * D / 8;  // of a block's K
  for (int i = threadIdx.x; i < tile_keys / block_tokens * chunks; i += threads) {
    const int block = i / chunks, at = i % chunks * 16;
    const int token = tile * tile_keys + block * block_tokens + at / 128 % block_tokens;
    const bool real = token < length;
    const std::byte* from = call.kv.tile(real ? table[token / block_tokens] : 0, call.layer, kv_head) + at;
    const int bytes = real ? 16 : 0;
    copy_16(&to[0][block * block_tokens * D * 2 + at], from, bytes);
    copy_16(&to[1][block * block_tokens * D * 2 + at], from + call.kv.value_offset(), bytes);
  }
}

/// Sixteen query rows of a warp: this lane has rows lane / 4 and 8 behind it.
template <int D>
struct row_state {
  std::uint32_t q[D / 16][4];
  float out[D / 8][4] = {};
  float maximum[2] = {-INFINITY, -INFINITY};
  float sum[2] = {};

  __device__ void load(const bf16* rows, int stride, int count) {
    const int lane = threadIdx.x & 31;
    for (int s = 0; s < D / 16; ++s)
      for (int i = 0; i < 4; ++i) {
        const int row = lane / 4 + i % 2 * 8;
        q[s][i] = row < count ? *reinterpret_cast<const std::uint32_t*>(rows + std::int64_t{row} * stride + s * 16 +
                                                                        i / 2 * 8 + lane % 4 * 2)
                              : 0;
      }
  }

  /// Keys 64 * tile ...; row r sees those up to position + r.
  __device__ void add(const std::byte (&kv)[2][tile_keys * D * 2], int tile, int position, float scale) {
    const int lane = threadIdx.x & 31;
    const std::uint32_t keys = shared_address(kv[0]), values = shared_address(kv[1]);
    float score[tile_keys / 8][4] = {};
#pragma unroll
    for (int s = 0; s < D / 16; ++s)
#pragma unroll
      for (int block = 0; block < tile_keys / block_tokens; ++block) {
        std::uint32_t b[4];
        load_matrices(b, keys + block * block_tokens * D * 2 +
                             kv_layout::chunk_offset((lane & 7) + (lane & 16) / 2, 2 * s + ((lane >> 3) & 1)));
        multiply_add(score[2 * block], q[s], b[0], b[1]);
        multiply_add(score[2 * block + 1], q[s], b[2], b[3]);
      }
    if (tile * tile_keys + tile_keys - 1 > position) mask(score, tile, position);
    for (int r = 0; r < 2; ++r) {
      float best = maximum[r];
      for (auto& s : score) best = fmaxf(best, fmaxf(s[2 * r], s[2 * r + 1]));
      best = fmaxf(best, __shfl_xor_sync(~0u, best, 1));
      best = fmaxf(best, __shfl_xor_sync(~0u, best, 2));
      const float shrink = exp2_fast((maximum[r] - best) * scale);
      maximum[r] = best;
      float fresh = 0;
      for (auto& s : score)
        for (int i = 2 * r; i < 2 * r + 2; ++i) fresh += s[i] = exp2_fast(fmaf(s[i], scale, -best * scale));
      sum[r] = sum[r] * shrink + fresh;
      for (auto& o : out) {
        o[2 * r] *= shrink;
        o[2 * r + 1] *= shrink;
      }
    }
#pragma unroll
    for (int block = 0; block < tile_keys / block_tokens; ++block) {
      const std::uint32_t p[4] = {pack_bf16(score[2 * block][0], score[2 * block][1]),
                                  pack_bf16(score[2 * block][2], score[2 * block][3]),
                                  pack_bf16(score[2 * block + 1][0], score[2 * block + 1][1]),
                                  pack_bf16(score[2 * block + 1][2], score[2 * block + 1][3])};
#pragma unroll
      for (int c = 0; c < D / 16; ++c) {
        std::uint32_t b[4];
        load_matrices_transposed(
            b, values + block * block_tokens * D * 2 + kv_layout::chunk_offset(lane & 15, 2 * c + (lane >> 4)));
        multiply_add(out[2 * c], p, b[0], b[1]);
        multiply_add(out[2 * c + 1], p, b[2], b[3]);
      }
    }
  }

  __device__ void store(bf16* rows, int stride, int count) {
    const int lane = threadIdx.x & 31;
    for (int r = 0; r < 2; ++r) {
      sum[r] += __shfl_xor_sync(~0u, sum[r], 1);
      sum[r] += __shfl_xor_sync(~0u, sum[r], 2);
      const int row = lane / 4 + r * 8;
      if (row >= count) continue;
      const float all = 1.0f / sum[r];
      for (int c = 0; c < D / 8; ++c)
        *reinterpret_cast<std::uint32_t*>(rows + std::int64_t{row} * stride + c * 8 + lane % 4 * 2) =
            pack_bf16(out[c][2 * r] * all, out[c][2 * r + 1] * all);
    }
  }

private:
  __device__ void mask(float (&score)[tile_keys / 8][4], int tile, int position) {
    const int lane = threadIdx.x & 31;
    for (int c = 0; c < tile_keys / 8; ++c)
      for (int i = 0; i < 4; ++i)
        if (tile * tile_keys + c * 8 + lane % 4 * 2 + i % 2 > position + lane / 4 + i / 2 * 8) score[c][i] = -INFINITY;
  }
};

template <int D>
__global__ void __launch_bounds__(threads, 1) prefill_rows(step_tables tables, attention_call call) {
  extern __shared__ __align__(128) std::byte shared[];
  auto& room = *reinterpret_cast<prefill_room<D>*>(shared);
  let_successor_start();
  wait_for_predecessor();
  if (static_cast<int>(blockIdx.y) >= call.plan.counts[1]) return;
  const prefill_tile tile = call.plan.tiles[blockIdx.y];
  const int head = blockIdx.x, kv_head = head / (call.heads / call.kv.kv_heads), warp = threadIdx.x >> 5;
  const int* table = tables.block_tables + std::int64_t{tile.sequence} * tables.table_stride;
  const int length = tile.past + tile.first + tile.rows;
  const int tiles = (length + tile_keys - 1) / tile_keys;
  fetch_tile<D>(room.tiles[0], call, table, kv_head, 0, length);
  copies_commit();

  const int first = tile.first + warp * 16, count = tile.rows - warp * 16;
  const std::int64_t row = tables.first_row[tile.sequence] + first;
  const int width = (call.heads + 2 * call.kv.kv_heads) * D;
  row_state<D> state;
  state.load(call.qkv + row * width + head * D, width, count);
  for (int t = 0; t < tiles; ++t) {
    if (t + 1 < tiles) fetch_tile<D>(room.tiles[(t + 1) % stages], call, table, kv_head, t + 1, length);
    copies_commit();
    copies_wait<1>();
    __syncthreads();
    if (count > 0 && t * tile_keys <= tile.past + first + 15)
      state.add(room.tiles[t % stages], t, tile.past + first, call.scale * 1.44269504f);
    __syncthreads();
  }
  if (count > 0) state.store(call.out + (row * call.heads + head) * D, call.heads * D, count);
}

template <int D>
void launch_prefill(const attention_call& call, cudaStream_t on) {
  const auto tiles = static_cast<unsigned>(most_tiles(call.tables->sequences, call.tables->rows, tile_rows));
  static_cast<void>(
      cudaFuncSetAttribute(prefill_rows<D>, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(prefill_room<D>)));
  launch(prefill_rows<D>, dim3(static_cast<unsigned>(call.heads), tiles), dim3(threads), sizeof(prefill_room<D>), on,
         *call.tables, call);
}

}  // namespace

void attend_prefill_by_warps(const attention_call& call, cudaStream_t on) {
  if (call.kv.head_dim == 128) return launch_prefill<128>(call, on);
  launch_prefill<64>(call, on);
}

std::int32_t prefill_tile_rows() { return prefill_rows_a_tile; }

void attend_prefill(const attention_call& call, cudaStream_t on) {
  int device = 0, major = 0, minor = 0;
  static_cast<void>(cudaGetDevice(&device));
  static_cast<void>(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  static_cast<void>(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
  if (major == 9 && minor == 0) return attend_prefill_by_groups(call, on);
  attend_prefill_by_warps(call, on);
}

}  // namespace troupe::kernels::cuda
