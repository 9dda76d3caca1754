// The product kernel for up to 8 rows: one block an SM streams tiles of 16 weight rows through a ring of asynchronous
// copies that is filled before the predecessor's result is waited for. Knows weights only through a format
// (fragments.cuh).
//
// The block's warps split the columns; each lane copies exactly what it will multiply, so the ring needs no barrier,
// and each warp brings its own columns of x, to registers, 512 columns at a time for two tiles each. Warps add their
// sums in one fixed order, which depends on the matrix alone.
#pragma once

#include "kernels/cuda/fragments.cuh"
#include "kernels/cuda/products.hpp"

namespace troupe::kernels::cuda {

struct small_arguments {
  weight_source w;
  const float* row_scale;
  int n;       // weight rows
  int n_half;  // silu: rows of each half; else 0
  int tiles;
  int k;
  int log_parts;  // of the number of warps that share a tile
  int rounds;     // runs of at most 512 columns a warp
  product p;
};

constexpr int small_warps = 8, small_threads = small_warps * 32;

template <class F, int Depth>
struct small_shape {
  static constexpr int group_bytes = 2 * F::quads * small_threads * 16;
  static constexpr int group_scale_bytes = 2 * small_threads * F::scale_bytes;
  static constexpr int units = 512 / F::columns;         // groups a warp takes in a round
  static constexpr int block_words = F::byte_x ? 2 : 4;  // of x, a lane and block of 32 columns
  __host__ __device__ static constexpr int rounds(int k_padded) {
    return (k_padded + 512 * small_warps - 1) / (512 * small_warps);
  }
  __host__ __device__ static constexpr int x_stride(int rounds) {
    return rounds * 256 * block_words + 64;
  }  // bytes; off by half the banks
  __host__ __device__ static constexpr int sums_floats(int rounds) { return rounds * 16 * F::sums * 8; }
  static constexpr int bytes(int k_padded, int rows) {
    const int r = rounds(k_padded);
    return Depth * (group_bytes + group_scale_bytes) + small_warps * (rows * x_stride(r) + sums_floats(r) * 4) +
           2 * small_warps * 2 * (16 * rows + 1) * 4 + small_warps * 8 * 4;
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

/// Writes eight values at columns c.. of the warp's own (a whole warp together) as the format's products want them.
template <class F>
__device__ void place_x(const float (&v)[8], float scale, int c, int row, std::uint8_t* x, float* sums, int lane) {
  if constexpr (F::byte_x) {           // bytes 2i + j of word h: columns 16h + 8j + 2t + i
    float largest = 0.0f, nan = 0.0f;  // nan: 0, or NaN where a value is NaN or infinite
#pragma unroll
    for (float f : v) largest = fmaxf(largest, fabsf(f)), nan += f * 0.0f;
#pragma unroll
    for (int o = 1; o <= 2; o *= 2) {
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, o));
      nan += __shfl_xor_sync(0xffffffffu, nan, o);
    }
    const float inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
    std::uint8_t* const to = x + (c & ~31) + (c >> 4 & 1) * 4 + (c >> 3 & 1);
#pragma unroll
    for (int i = 0; i < 8; ++i)
      to[(i >> 1) * 8 + (i & 1) * 2] = static_cast<std::uint8_t>(__float2int_rn(v[i] * inverse));
    if ((lane & 3) == 0) sums[c / 32 * 8 + row] = largest / (127.0f * 16.0f) + nan;
  } else if constexpr (!F::fragment_order) {
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
      *reinterpret_cast<unsigned*>(to + t * 16) = two;
      const float2 rounded = __half22float2(*reinterpret_cast<const __half2*>(&two));
      sum += rounded.x + rounded.y;
    }
    if constexpr (F::sums > 0) {
      float start = -(upper ? F::upper_offset : F::offset) * sum, plain = upper ? sum / F::upper_x : sum;
      start += __shfl_xor_sync(0xffffffffu, start, 1);
      if constexpr (F::sums_by_half) {
        if ((lane & 1) == 0) sums[c / 16 * 8 + row] = start;
      } else {
        start += __shfl_xor_sync(0xffffffffu, start, 2);
        plain += __shfl_xor_sync(0xffffffffu, plain, 1);
        plain += __shfl_xor_sync(0xffffffffu, plain, 2);
        if ((lane & 3) == 0) {
          sums[c / 32 * 8 * F::sums + row] = start;
          if constexpr (F::sums == 2) sums[c / 32 * 16 + 8 + row] = plain;
        }
      }
    }
  }
}

/// Which groups of columns a warp takes in a round: `count` from `first`.
struct small_run {
  int first, count;
  __device__ small_run(int groups, int units, int part, int log_parts, int round) {
    const int base = round * units * small_warps, in_round = min(groups - base, units * small_warps);
    first = part * in_round >> log_parts;
    count = ((part + 1) * in_round >> log_parts) - first;
    first += base;
  }
};

/// A warp brings its columns of one token to its own shared memory, scaled by a power of two into f16's range where the
/// format wants f16; returns what takes the scale back.
template <class F>
__device__ float stage_x(const small_arguments& a, int row, int part, std::uint8_t* x, float* sums, float& squares,
                         int lane) {
  float v[2][8], scale = 1.0f;
  squares = 0.0f;
  const auto read = [&](int round) {  // 512 columns
    const small_run run(a.w.groups, 512 / F::columns, part, a.log_parts, round);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int own = i * 256 + lane * 8;
      eight_values(a.p, row, own < run.count * F::columns ? run.first * F::columns + own : a.k, a.k, v[i], squares);
    }
  };
  read(0);
  if constexpr (F::half_x) {
    float largest = 0.0f;
    for (int round = 0;;) {
#pragma unroll
      for (int i = 0; i < 16; ++i) largest = fmaxf(largest, fabsf(v[i / 8][i % 8]));
      if (++round == a.rounds) break;
      read(round);
    }
    largest = warp_max(largest);
    const int exponent = (__float_as_int(largest) >> 23) - 127;
    if (largest > 0.0f && exponent < 128) scale = __int_as_float((127 + min(13 - exponent, 100)) << 23);
    if (a.rounds > 1) {
      squares = 0.0f;
      read(0);
    }
  }
  for (int round = 0;;) {
#pragma unroll
    for (int i = 0; i < 2; ++i) place_x<F>(v[i], scale, round * 512 + i * 256 + lane * 8, row, x, sums, lane);
    if (++round == a.rounds) break;
    read(round);
  }
  if (!a.p.x) squares = warp_sum(squares);
  return 1.0f / scale;
}

template <class F, int Depth>
__global__ void __launch_bounds__(small_threads, 2) small_product_kernel(const __grid_constant__ small_arguments a) {
  using shape = small_shape<F, Depth>;
  extern __shared__ uint4 shared[];
  const int tid = threadIdx.x, lane = tid & 31, warp = tid >> 5;
  const int rows = a.p.rows, x_stride = shape::x_stride(a.rounds), pitch = rows * 16 + 1;
  char* const ring = reinterpret_cast<char*>(shared);
  char* const scale_ring = ring + Depth * shape::group_bytes;
  std::uint8_t* const all_x = reinterpret_cast<std::uint8_t*>(scale_ring + Depth * shape::group_scale_bytes);
  float* const all_sums = reinterpret_cast<float*>(all_x + small_warps * rows * x_stride);
  float* const partial = all_sums + small_warps * shape::sums_floats(a.rounds);
  float* const squares = partial + 2 * small_warps * 2 * pitch;
  std::uint8_t* const x = all_x + warp * rows * x_stride;
  float* const sums = all_sums + warp * shape::sums_floats(a.rounds);

  const int parts = 1 << a.log_parts, log_slots = 3 - a.log_parts, slots = 1 << log_slots;
  const int part = warp & (parts - 1), slot = warp >> a.log_parts;
  const int step = gridDim.x * slots, half8 = a.n_half >> 3;

  // The ring's order: two tiles at a time, round by round; in a round one tile's groups, then the other's.
  const std::uint8_t *from[2], *scale_from[2];
  int pair = blockIdx.x * slots + slot, second = 0, round = 0, left = 0;
  unsigned copy_to = 0;
  const auto next_run = [&] {
    const small_run run(a.w.groups, 512 / F::columns, part, a.log_parts, round);
    const int tile = pair + second * step;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int r8 = half8 ? tile + h * half8 : tile * 2 + h;
      from[h] = F::at(a.w, r8, run.first, lane);
      if constexpr (F::scale_bytes > 0)
        scale_from[h] = a.w.scales + (unit_at(a.w, r8, run.first) * 8 + (lane >> 2)) * F::scale_bytes;
    }
    left = run.count;
    if (second == 0 && pair + step < a.tiles) {
      second = 1;
    } else {
      second = 0;
      if (++round == a.rounds) round = 0, pair += 2 * step;
    }
  };
  const auto copy_next = [&] {
    while (left == 0 && pair < a.tiles) next_run();  // a last round may have nothing for this warp
    if (left > 0) {
      --left;
#pragma unroll
      for (int h = 0; h < 2; ++h) {
#pragma unroll
        for (int q = 0; q < F::quads; ++q)
          copy_16_async(ring + copy_to * shape::group_bytes + ((h * F::quads + q) * small_threads + tid) * 16,
                        from[h] + q * F::quad_step);
        from[h] += F::group_step;
        if constexpr (F::scale_bytes > 0) {
          char* const to = scale_ring + copy_to * shape::group_scale_bytes + (h * small_threads + tid) * F::scale_bytes;
          if constexpr (F::scale_bytes == 8) copy_8_async(to, scale_from[h]);
          else copy_16_async(to, scale_from[h]);
          scale_from[h] += 64 * F::scale_bytes;
        }
      }
    }
    copy_to = copy_to + 1 == Depth ? 0 : copy_to + 1;
    commit_copies();
  };
  for (int i = 0; i < Depth; ++i) copy_next();
  let_successor_start();
  wait_for_predecessor();

  const int g = lane >> 2, t = lane & 3;
  float back[2] = {};
  for (int row = 0; row < rows; ++row) {
    float square;
    const float factor = stage_x<F>(a, row, part, x + row * x_stride, sums, square, lane);
    if (lane == 0) squares[warp * 8 + row] = square;
    if (2 * t == row) back[0] = factor;
    if (2 * t + 1 == row) back[1] = factor;
  }
  __syncwarp();

  const std::uint8_t* const my_x = x + min(g, rows - 1) * x_stride + t * 4 * shape::block_words;
  unsigned b[16 * shape::block_words];
  unsigned read_at = 0;
  int buffer = 0;
  for (int first = blockIdx.x * slots; first < a.tiles; first += 2 * step, buffer ^= 1) {
    float acc[2][4] = {};
    for (int r = 0; r < a.rounds; ++r) {
      const int count = small_run(a.w.groups, shape::units, part, a.log_parts, r).count;
      if (a.rounds > 1 || first == blockIdx.x * slots) {
#pragma unroll
        for (int i = 0; i < 16; ++i) {
          if constexpr (F::byte_x) {
            const uint2 two = *reinterpret_cast<const uint2*>(my_x + r * 512 + i * 32);
            b[2 * i] = two.x, b[2 * i + 1] = two.y;
          } else {
            const uint4 four = *reinterpret_cast<const uint4*>(my_x + r * 1024 + i * 64);
            b[4 * i] = four.x, b[4 * i + 1] = four.y, b[4 * i + 2] = four.z, b[4 * i + 3] = four.w;
          }
        }
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        if (first + slot + i * step >= a.tiles) break;
#pragma unroll
        for (int u = 0; u < shape::units; ++u) {
          if (u >= count) break;
          wait_copies<Depth - 1>();
          uint4 lo[F::quads], hi[F::quads], d_lo = {}, d_hi = {};
          const char* const at = ring + read_at * shape::group_bytes + tid * 16;
#pragma unroll
          for (int q = 0; q < F::quads; ++q) {
            lo[q] = *reinterpret_cast<const uint4*>(at + q * small_threads * 16);
            hi[q] = *reinterpret_cast<const uint4*>(at + (F::quads + q) * small_threads * 16);
          }
          const char* const scales = scale_ring + read_at * shape::group_scale_bytes + tid * F::scale_bytes;
          if constexpr (F::scale_bytes == 8) {
            const uint2 l = *reinterpret_cast<const uint2*>(scales),
                        h = *reinterpret_cast<const uint2*>(scales + small_threads * 8);
            d_lo.x = l.x, d_lo.y = l.y, d_hi.x = h.x, d_hi.y = h.y;
          } else if constexpr (F::scale_bytes == 16) {
            d_lo = *reinterpret_cast<const uint4*>(scales);
            d_hi = *reinterpret_cast<const uint4*>(scales + small_threads * 16);
          }
          copy_next();
          F::multiply(acc[i], lo, hi, d_lo, d_hi, b + u * (F::columns / 32 * shape::block_words),
                      sums + (r * 16 + u * (F::columns / 32)) * 8 * F::sums, lane);
          read_at = read_at + 1 == Depth ? 0 : read_at + 1;
        }
      }
    }
    float* const mine = partial + (buffer * small_warps + warp) * 2 * pitch;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int column = 2 * t + (i & 1);
      if (column < rows) {
        mine[column * 16 + g + (i >> 1) * 8] = acc[0][i] * back[i & 1];
        mine[pitch + column * 16 + g + (i >> 1) * 8] = acc[1][i] * back[i & 1];
      }
    }
    __syncthreads();
    // `parts` lanes an output; the other buffer is free until the next barrier.
    for (int i = tid; i < rows * 2 * 16 * small_warps; i += small_threads) {
      const int output = i >> a.log_parts, r16 = (output & 1) * 8 + (output >> 1 & 7);
      const int tile_slot = output >> 4 & (slots - 1), which = output >> (4 + log_slots) & 1,
                token = output >> (5 + log_slots);
      const int source = (tile_slot << a.log_parts) + (i & (parts - 1)), tile = first + tile_slot + which * step;
      float sum = partial[((buffer * small_warps + source) * 2 + which) * pitch + token * 16 + r16];
      float rms = a.p.x ? 0.0f : squares[source * 8 + token];
      for (int o = parts >> 1; o; o >>= 1) {
        sum += __shfl_xor_sync(0xffffffffu, sum, o);
        rms += __shfl_xor_sync(0xffffffffu, rms, o);
      }
      if (!a.p.x) sum *= rsqrtf(rms / static_cast<float>(a.k) + a.p.eps);
      const int n = half8 ? tile * 8 + (r16 & 7) : tile * 16 + r16;
      if (F::row_scale && n < a.n) sum *= a.row_scale[half8 && r16 >= 8 ? n + a.n_half : n];
      const float up = __shfl_xor_sync(0xffffffffu, sum, parts);
      if ((i & (parts - 1)) != 0 || tile >= a.tiles || (half8 && r16 >= 8) || n >= a.n) continue;
      const long at = token * a.p.out_stride + n;
      switch (a.p.output) {
        case product_output::bf16: static_cast<bf16*>(a.p.out)[at] = __float2bfloat16(sum); break;
        case product_output::f32: static_cast<float*>(a.p.out)[at] = sum; break;
        case product_output::add_f32:
          atomicAdd(static_cast<float*>(a.p.out) + at, sum);
          break;  // one a launch: no wait
        case product_output::silu_bf16:
          static_cast<bf16*>(a.p.out)[at] = __float2bfloat16(sum / (1.0f + __expf(-sum)) * up);
          break;
      }
    }
  }
}

/// Launches the kernel of one shape with `an_sm` blocks an SM; the caller sees to it that rows fit.
template <class F, int Depth>
void launch_small(const product& p, int processors, int an_sm, cudaStream_t on) {
  using shape = small_shape<F, Depth>;
  const device_matrix& w = *p.w;
  small_arguments a{};
  a.p = p;
  a.n = static_cast<int>(w.rows);
  a.n_half = p.output == product_output::silu_bf16 ? a.n / 2 : 0;
  a.tiles = static_cast<int>(a.n_half ? a.n_half / 8 : (w.rows + 15) / 16);
  a.k = static_cast<int>(w.cols);
  a.w.data = w.data.template as<const std::uint8_t>();
  a.w.scales = w.scales.template as<const std::uint8_t>();
  a.w.groups = static_cast<int>(w.k_padded / F::columns);
  a.w.row_bytes = w.type == weight_type::fp8 ? w.k_padded : w.k_padded * 2;
  a.row_scale = w.scales.template as<const float>();
  if (a.n_half) a.n = a.n_half;
  a.log_parts = 3;
  while (1 << a.log_parts > a.w.groups) --a.log_parts;
  a.rounds = shape::rounds(static_cast<int>(w.k_padded));
  const int slots = small_warps >> a.log_parts, sets = (a.tiles + slots - 1) / slots;
  static const cudaError_t raised = [] {
    // An SM whose split between cache and shared memory must change first runs empty: all kernels ask for one split.
    cudaFuncSetAttribute(small_product_kernel<F, Depth>, cudaFuncAttributePreferredSharedMemoryCarveout,
                         cudaSharedmemCarveoutMaxShared);
    return cudaFuncSetAttribute(small_product_kernel<F, Depth>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                227 * 1024);
  }();
  static_cast<void>(raised);  // a failure shows at the launch
  // So much shared memory that no SM takes one block more: blocks that start while the predecessor's end would crowd
  // where there is room first, and the others' share of the bandwidth would be lost.
  const int alone = 228 * 1024 / (an_sm + 1), needed = shape::bytes(static_cast<int>(w.k_padded), p.rows);
  const int blocks = processors * an_sm;
  launch(small_product_kernel<F, Depth>, dim3(sets < blocks ? sets : blocks), dim3(small_threads),
         needed > alone ? needed : alone, on, a);
}

}  // namespace troupe::kernels::cuda
