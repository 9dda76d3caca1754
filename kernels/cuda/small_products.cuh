// The product kernel for up to 8 rows: one block an SM streams tiles of 16 weight rows through a ring of asynchronous
// copies that is filled before the predecessor's result is waited for. Knows weights only through a format (fragments.cuh).
//
// The block's warps split the columns; each lane copies exactly what it will multiply, so the ring needs no barrier.
// Warps add their sums in one fixed order, which depends on the matrix alone.
#pragma once

#include "kernels/cuda/fragments.cuh"
#include "kernels/cuda/products.hpp"

namespace troupe::kernels::cuda {

struct small_arguments {
  weight_source w;
  const float* row_scale;
  int n;           // weight rows
  int n_half;      // silu: rows of each half; else 0
  int tiles;
  int k, k_padded;
  int column_parts;  // warps that share a tile
  product p;
};

template <class F, int Warps, int Depth>
struct small_shape {
  static constexpr int threads = Warps * 32;
  static constexpr int ring_bytes = Depth * 2 * F::quads * threads * 16;
  static constexpr int scale_ring_bytes = Depth * 2 * threads * F::scale_bytes;
  __host__ __device__ static constexpr int x_stride(int k_padded) { return k_padded * 2 + 64; }  // bytes; off by half the banks
  __host__ __device__ static constexpr int sums_bytes(int k_padded) { return k_padded / 32 * F::sums * 8 * 4; }
  static constexpr int fixed_bytes = (Warps * 8 + Warps * 8 + 8) * 4;
  __host__ __device__ static constexpr int bytes(int k_padded, int rows) {
    return ring_bytes + scale_ring_bytes + rows * x_stride(k_padded) + sums_bytes(k_padded) +
           2 * Warps * (16 * rows + 1) * 4 + fixed_bytes;
  }
};

__device__ inline void eight_values(const product& p, int row, int column, int k, float (&v)[8], float& squares) {
  if (column >= k) {
#pragma unroll
    for (float& f : v) f = 0.0f;
    return;
  }
  if (p.x) {
    const uint4 raw = *reinterpret_cast<const uint4*>(p.x + row * p.x_stride + column);
    const unsigned words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      v[2 * i] = __uint_as_float(words[i] << 16);
      v[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
    return;
  }
  const float4* h = reinterpret_cast<const float4*>(p.hidden + row * p.x_stride + column);
  const float4* g = reinterpret_cast<const float4*>(p.gain + column);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float4 a = h[i], b = g[i];
    squares += a.x * a.x + a.y * a.y + a.z * a.z + a.w * a.w;
    v[4 * i] = a.x * b.x;
    v[4 * i + 1] = a.y * b.y;
    v[4 * i + 2] = a.z * b.z;
    v[4 * i + 3] = a.w * b.w;
  }
}

__device__ inline float warp_sum(float v) {
#pragma unroll
  for (int o = 16; o; o >>= 1) v += __shfl_xor_sync(0xffffffffu, v, o);
  return v;
}
__device__ inline float warp_max(float v) {
#pragma unroll
  for (int o = 16; o; o >>= 1) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, o));
  return v;
}

template <bool Half>
__device__ inline unsigned pack_two(float a, float b) {
  if constexpr (Half) {
    const __half2 two = __floats2half2_rn(a, b);
    return *reinterpret_cast<const unsigned*>(&two);
  } else {
    const __nv_bfloat162 two = __floats2bfloat162_rn(a, b);
    return *reinterpret_cast<const unsigned*>(&two);
  }
}

/// Writes eight values at columns c.. (a whole warp together) as the format's products want them.
template <class F>
__device__ void place_x(const float (&v)[8], float scale, int c, int k1, int row, std::uint8_t* x, float* sums, int lane) {
  if constexpr (!F::fragment_order) {
    if (c >= k1) return;
    *reinterpret_cast<uint4*>(x + c * 2) = {
        pack_two<F::half_x>(v[0] * scale, v[1] * scale), pack_two<F::half_x>(v[2] * scale, v[3] * scale),
        pack_two<F::half_x>(v[4] * scale, v[5] * scale), pack_two<F::half_x>(v[6] * scale, v[7] * scale)};
  } else {
    const bool upper = c & 16;  // the second product of a block, which takes upper nibbles
    const float factor = upper ? scale * F::upper_x : scale;
    std::uint8_t* const to = x + (c & ~31) * 2 + (c >> 3 & 3) * 4;
    float sum = 0.0f;
#pragma unroll
    for (int t = 0; t < 4; ++t) {
      const unsigned two = pack_two<true>(v[2 * t] * factor, v[2 * t + 1] * factor);
      if (c < k1) *reinterpret_cast<unsigned*>(to + t * 16) = two;
      const float2 rounded = __half22float2(*reinterpret_cast<const __half2*>(&two));
      sum += rounded.x + rounded.y;
    }
    if constexpr (F::sums > 0) {
      float start = -(upper ? F::upper_offset : F::offset) * sum, plain = upper ? sum / F::upper_x : sum;
      start += __shfl_xor_sync(0xffffffffu, start, 1);
      start += __shfl_xor_sync(0xffffffffu, start, 2);
      plain += __shfl_xor_sync(0xffffffffu, plain, 1);
      plain += __shfl_xor_sync(0xffffffffu, plain, 2);
      if ((lane & 3) == 0 && c < k1) {
        sums[c / 32 * 8 * F::sums + row] = start;
        if constexpr (F::sums == 2) sums[c / 32 * 16 + 8 + row] = plain;
      }
    }
  }
}

/// One warp brings columns [k0, k1) of one token to shared memory, scaled by a power of two into f16's range where the
/// format wants f16; returns what takes the scale back.
template <class F>
__device__ float stage_x(const product& p, int row, int k0, int k1, int k, std::uint8_t* x, float* sums, float& squares,
                         int lane) {
  constexpr int ahead = 2;  // loads in flight; a run of columns that fits is read only once
  float scale = 1.0f, v[ahead][8];
  squares = 0.0f;
  const int first = k0 + lane * 8, run = ahead * 256;
  const auto read = [&](int c) {
#pragma unroll
    for (int i = 0; i < ahead; ++i) eight_values(p, row, c + i * 256, min(k, k1), v[i], squares);
  };
  read(first);
  if constexpr (F::half_x) {
    float largest = 0.0f;
    for (int c = first;;) {
#pragma unroll
      for (int i = 0; i < ahead * 8; ++i) largest = fmaxf(largest, fabsf(v[i / 8][i % 8]));
      if ((c += run) >= k1) break;
      read(c);
    }
    largest = warp_max(largest);
    const int exponent = (__float_as_int(largest) >> 23) - 127;
    if (largest > 0.0f && exponent < 128) scale = __int_as_float((127 + min(13 - exponent, 100)) << 23);
    if (k1 - k0 > run) {
      squares = 0.0f;
      read(first);
    }
  }
  for (int c = first; c - lane * 8 < k1; c += run) {
    if (c != first) read(c);
#pragma unroll
    for (int i = 0; i < ahead; ++i)
      if (c + i * 256 - lane * 8 < k1) place_x<F>(v[i], scale, c + i * 256, k1, row, x, sums, lane);
  }
  squares = warp_sum(squares);
  return 1.0f / scale;
}

template <class F, int Warps, int Depth>
__global__ void __launch_bounds__(Warps * 32, 1024 / (Warps * 32)) small_product_kernel(const __grid_constant__ small_arguments a) {
  using shape = small_shape<F, Warps, Depth>;
  extern __shared__ uint4 shared[];
  const int tid = threadIdx.x, lane = tid & 31, warp = tid >> 5;
  const int rows = a.p.rows;
  char* const scale_ring = reinterpret_cast<char*>(shared) + shape::ring_bytes;
  std::uint8_t* const x = reinterpret_cast<std::uint8_t*>(scale_ring + shape::scale_ring_bytes);
  float* const sums = reinterpret_cast<float*>(x + rows * shape::x_stride(a.k_padded));
  float* const partial = sums + shape::sums_bytes(a.k_padded) / 4;
  float* const factor = partial + 2 * Warps * (16 * rows + 1);
  float* const squares = factor + Warps * 8;
  float* const rms = squares + Warps * 8;

  const int parts = a.column_parts, slots = Warps / parts;
  const int part = warp % parts, slot = warp / parts;
  const int g0 = part * a.w.groups / parts, g1 = (part + 1) * a.w.groups / parts;
  const int step = gridDim.x * slots;
  const int half8 = a.n_half >> 3, pitch = rows * 16 + 1;

  // Where the next group to be copied lies: of the tile's rows 0-7 and 8-15 (silu: of gate's and of up's eight).
  const std::uint8_t *from[2], *scale_from[2];
  int next_tile = blockIdx.x * slots + slot, left = 0;
  unsigned copy_to = tid * 16, scale_to = tid * F::scale_bytes;
  const auto copy_next = [&] {
    if (next_tile < a.tiles) {
      if (left == 0) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const int r8 = half8 ? next_tile + h * half8 : next_tile * 2 + h;
          from[h] = F::at(a.w, r8, g0, lane);
          if constexpr (F::scale_bytes > 0) scale_from[h] = a.w.scales + (unit_at(a.w, r8, g0) * 8 + (lane >> 2)) * F::scale_bytes;
        }
        left = g1 - g0;
      }
#pragma unroll
      for (int h = 0; h < 2; ++h) {
#pragma unroll
        for (int q = 0; q < F::quads; ++q)
          copy_16_async(reinterpret_cast<char*>(shared) + copy_to + (h * F::quads + q) * shape::threads * 16, from[h] + q * F::quad_step);
        from[h] += F::group_step;
        if constexpr (F::scale_bytes > 0) {
          char* const to = scale_ring + scale_to + h * shape::threads * F::scale_bytes;
          if constexpr (F::scale_bytes == 8) copy_8_async(to, scale_from[h]);
          else copy_16_async(to, scale_from[h]);
          scale_from[h] += 64 * F::scale_bytes;
        }
      }
      if (--left == 0) next_tile += step;
    }
    copy_to += 2 * F::quads * shape::threads * 16;
    scale_to += 2 * shape::threads * F::scale_bytes;
    if (copy_to >= shape::ring_bytes) copy_to = tid * 16, scale_to = tid * F::scale_bytes;
    commit_copies();
  };
  for (int i = 0; i < Depth; ++i) copy_next();
  let_successor_start();
  wait_for_predecessor();

  for (int row = slot; row < rows; row += slots) {
    float square = 0.0f;
    const float back = stage_x<F>(a.p, row, g0 * F::columns, g1 * F::columns, a.k, x + row * shape::x_stride(a.k_padded),
                                  sums, square, lane);
    if (lane == 0) factor[part * 8 + row] = back, squares[part * 8 + row] = square;
  }
  __syncthreads();
  if (tid < rows) {
    float r = 1.0f;
    if (!a.p.x) {
      float total = 0.0f;
      for (int i = 0; i < parts; ++i) total += squares[i * 8 + tid];
      r = rsqrtf(total / static_cast<float>(a.k) + a.p.eps);
    }
    rms[tid] = r;
  }

  const int g = lane >> 2, t = lane & 3;
  const std::uint8_t* const my_x = x + min(g, rows - 1) * shape::x_stride(a.k_padded);
  float back[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) back[i] = 2 * t + i < rows ? factor[part * 8 + 2 * t + i] : 0.0f;

  int buffer = 0;
  unsigned read_at = tid * 16, scale_at = tid * F::scale_bytes;
  for (int first = blockIdx.x * slots; first < a.tiles; first += step, buffer ^= 1) {
    float* const mine = partial + (buffer * Warps + warp) * pitch;
    if (first + slot < a.tiles) {
      float acc[4] = {};
      const std::uint8_t* group_x = my_x + g0 * (F::columns * 2);
      const float* group_sums = sums + g0 * (F::columns / 32 * 8 * F::sums);
      for (int group = g0; group < g1; ++group) {
        wait_copies<Depth - 1>();
        uint4 lo[F::quads], hi[F::quads];
        uint4 scale[2];
        const char* const slot_at = reinterpret_cast<const char*>(shared) + read_at;
#pragma unroll
        for (int q = 0; q < F::quads; ++q) {
          lo[q] = *reinterpret_cast<const uint4*>(slot_at + q * shape::threads * 16);
          hi[q] = *reinterpret_cast<const uint4*>(slot_at + (F::quads + q) * shape::threads * 16);
        }
        if constexpr (F::scale_bytes > 0) {
          const char* const scales = scale_ring + scale_at;
          if constexpr (F::scale_bytes == 8) {
            *reinterpret_cast<uint2*>(&scale[0]) = *reinterpret_cast<const uint2*>(scales);
            *reinterpret_cast<uint2*>(&scale[1]) = *reinterpret_cast<const uint2*>(scales + shape::threads * 8);
          } else {
            scale[0] = *reinterpret_cast<const uint4*>(scales);
            scale[1] = *reinterpret_cast<const uint4*>(scales + shape::threads * 16);
          }
        }
        copy_next();
        F::multiply(acc, lo, hi, reinterpret_cast<const char*>(&scale[0]), reinterpret_cast<const char*>(&scale[1]),
                    group_x, group_sums, lane);
        group_x += F::columns * 2;
        group_sums += F::columns / 32 * 8 * F::sums;
        read_at += 2 * F::quads * shape::threads * 16;
        scale_at += 2 * shape::threads * F::scale_bytes;
        if (read_at >= shape::ring_bytes) read_at = tid * 16, scale_at = tid * F::scale_bytes;
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        if (2 * t + i < rows) {
          mine[(2 * t + i) * 16 + g] = acc[i] * back[i];
          mine[(2 * t + i) * 16 + g + 8] = acc[2 + i] * back[i];
        }
      }
    }
    __syncthreads();
    // `parts` lanes an output, half of the warps at odd tiles and the other half at even ones where one row is enough
    // for half; the other buffer is free until the next barrier.
    for (int i = tid ^ (buffer * shape::threads / 2); i < slots * rows * 16 * parts; i += shape::threads) {
      const int output = i / parts, r16 = (output & 1) * 8 + (output >> 1 & 7), token = (output >> 4) % rows;
      const int tile_slot = (output >> 4) / rows, tile = first + tile_slot;
      float sum = partial[(buffer * Warps + tile_slot * parts + i % parts) * pitch + token * 16 + r16];
      for (int o = parts >> 1; o; o >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, o);
      const float up = __shfl_xor_sync(0xffffffffu, sum, parts) * rms[token];
      const int n = half8 ? tile * 8 + r16 : tile * 16 + r16;
      if (i % parts != 0 || tile >= a.tiles || (half8 && r16 >= 8) || n >= a.n) continue;
      sum *= rms[token];
      if (F::row_scale) sum *= a.row_scale[n];
      const long at = token * a.p.out_stride + n;
      switch (a.p.output) {
        case product_output::bf16: static_cast<bf16*>(a.p.out)[at] = __float2bfloat16(sum); break;
        case product_output::f32: static_cast<float*>(a.p.out)[at] = sum; break;
        case product_output::add_f32: atomicAdd(static_cast<float*>(a.p.out) + at, sum); break;  // one a launch: no wait
        case product_output::silu_bf16:
          static_cast<bf16*>(a.p.out)[at] = __float2bfloat16(
              sum / (1.0f + __expf(-sum)) * (F::row_scale ? up * a.row_scale[n + a.n_half] : up));
          break;
      }
    }
  }
}

/// Launches the kernel of one shape; the caller sees to it that rows fit.
template <class F, int Warps, int Depth>
void launch_small(const product& p, int blocks, cudaStream_t on) {
  using shape = small_shape<F, Warps, Depth>;
  const device_matrix& w = *p.w;
  small_arguments a{};
  a.p = p;
  a.n = static_cast<int>(w.rows);
  a.n_half = p.output == product_output::silu_bf16 ? a.n / 2 : 0;
  a.tiles = static_cast<int>(a.n_half ? a.n_half / 8 : w.n_padded / 16);
  a.k = static_cast<int>(w.cols);
  a.k_padded = static_cast<int>(w.k_padded);
  a.w.data = w.data.template as<const std::uint8_t>();
  a.w.scales = w.scales.template as<const std::uint8_t>();
  a.w.groups = a.k_padded / F::columns;
  a.w.row_bytes = w.type == weight_type::fp8 ? w.k_padded : w.k_padded * 2;
  a.row_scale = w.scales.template as<const float>();
  if (a.n_half) a.n = a.n_half;
  int parts = Warps;
  while (parts > a.w.groups) parts /= 2;
  a.column_parts = parts;
  const int slots = Warps / parts, sets = (a.tiles + slots - 1) / slots;
  const int shared = shape::bytes(a.k_padded, p.rows);
  static bool raised = false;  // per kernel; racing threads set the same value
  if (!raised) {
    cudaFuncSetAttribute(small_product_kernel<F, Warps, Depth>, cudaFuncAttributeMaxDynamicSharedMemorySize, 227 * 1024);
    // An SM whose split between cache and shared memory must change first runs empty: all kernels ask for one split.
    cudaFuncSetAttribute(small_product_kernel<F, Warps, Depth>, cudaFuncAttributePreferredSharedMemoryCarveout,
                         cudaSharedmemCarveoutMaxShared);
    raised = true;
  }
  launch(small_product_kernel<F, Warps, Depth>, dim3(sets < blocks ? sets : blocks), dim3(shape::threads), shared, on, a);
}

}  // namespace troupe::kernels::cuda
