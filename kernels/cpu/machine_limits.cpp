// Small loops: one does nothing but read, the others nothing but multiply and add.
#include "kernels/cpu/machine_limits.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "memory/buffer.hpp"

namespace troupe::kernels {
namespace {

using clock = std::chrono::steady_clock;
constexpr std::int64_t buffer_bytes = 512ll << 20;  // over any last-level cache that two cores share
constexpr int passes = 6;
constexpr std::int64_t rounds = 4'000'000;
constexpr int chains = 16;  // independent sums, more than latency times ports of any core

double seconds_since(clock::time_point start) { return std::chrono::duration<double>(clock::now() - start).count(); }

std::uint64_t read_all(const std::uint64_t* words, std::int64_t first, std::int64_t last) {
  std::uint64_t sums[16] = {};
  for (std::int64_t i = first; i + 16 <= last; i += 16)
    for (int k = 0; k < 16; ++k) sums[k] ^= words[i + k];
  std::uint64_t all = 0;
  for (const std::uint64_t sum : sums) all ^= sum;
  return all;
}

double read_rate(thread_team& team, const memory::buffer& buffer) {
  const auto* words = static_cast<const std::uint64_t*>(buffer.data());
  const std::int64_t count = buffer.bytes() / 8;
  std::atomic<std::uint64_t> sink{0};
  double best = 0;
  for (int pass = 0; pass < passes; ++pass) {
    const auto start = clock::now();
    team.run([&](int thread, int threads) {
      const share mine = team.share_of(count, thread, threads);
      sink.fetch_xor(read_all(words, mine.first, mine.last), std::memory_order_relaxed);
    });
    best = std::max(best, static_cast<double>(buffer.bytes()) / seconds_since(start));
  }
  return best;
}

/// Each returns the ops of `count` rounds: chains x lanes x 2 a round. The empty asm keeps the sums alive, in
/// registers.
std::int64_t scalar_round(std::int64_t count) {
  std::int32_t sums[chains] = {};
  for (std::int64_t i = 0; i < count; ++i)
    for (int c = 0; c < chains; ++c) sums[c] += static_cast<std::int8_t>(i) * static_cast<std::int8_t>(i + c);
  asm volatile("" : : "r"(sums) : "memory");
  return count * chains * 2;
}

#if defined(__x86_64__)
__attribute__((target("avx512f,avx512vnni"))) std::int64_t avx512vnni_round(std::int64_t count) {
  __m512i sums[chains];
#pragma GCC unroll 16
  for (int c = 0; c < chains; ++c) sums[c] = _mm512_setzero_si512();
  const __m512i a = _mm512_set1_epi32(0x01020304), b = _mm512_set1_epi32(0x04030201);
  for (std::int64_t i = 0; i < count; ++i) {
#pragma GCC unroll 16
    for (int c = 0; c < chains; ++c) {
      sums[c] = _mm512_dpbusd_epi32(sums[c], a, b);
      asm volatile("" : "+v"(sums[c]));
    }
  }
  return count * chains * 64 * 2;
}

__attribute__((target("avx2"))) std::int64_t avx2_round(std::int64_t count) {
  constexpr int sums_kept = 8;  // 16 registers, two more in flight
  __m256i sums[sums_kept];
#pragma GCC unroll 8
  for (int c = 0; c < sums_kept; ++c) sums[c] = _mm256_setzero_si256();
  const __m256i a = _mm256_set1_epi32(0x01020304), b = _mm256_set1_epi32(0x04030201), ones = _mm256_set1_epi16(1);
  for (std::int64_t i = 0; i < count; ++i) {
#pragma GCC unroll 8
    for (int c = 0; c < sums_kept; ++c) {
      __m256i factor = a;
      asm volatile("" : "+x"(factor));  // or the product would be computed once
      sums[c] = _mm256_add_epi32(sums[c], _mm256_madd_epi16(_mm256_maddubs_epi16(factor, b), ones));
    }
  }
#pragma GCC unroll 8
  for (int c = 0; c < sums_kept; ++c) asm volatile("" : "+x"(sums[c]));
  return count * sums_kept * 32 * 2;
}

__attribute__((target("avx2,avxvnni"))) std::int64_t avx_vnni_round(std::int64_t count) {
  constexpr int sums_kept = 12;
  __m256i sums[sums_kept];
#pragma GCC unroll 12
  for (int c = 0; c < sums_kept; ++c) sums[c] = _mm256_setzero_si256();
  const __m256i a = _mm256_set1_epi32(0x01020304), b = _mm256_set1_epi32(0x04030201);
  for (std::int64_t i = 0; i < count; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < sums_kept; ++c) {
      sums[c] = _mm256_dpbusd_avx_epi32(sums[c], a, b);
      asm volatile("" : "+x"(sums[c]));
    }
  }
  return count * sums_kept * 32 * 2;
}
#endif

#if defined(__x86_64__)
/// All eight tiles 16 rows of 64 bytes: 0 to 3 are sums, 4 to 7 what is multiplied.
__attribute__((target("amx-tile"))) void begin_tiles() {
  struct alignas(64) {
    std::uint8_t palette = 1, start = 0, zero[14] = {};
    std::uint16_t row_bytes[16] = {};
    std::uint8_t rows[16] = {};
  } shape;
  std::fill_n(shape.row_bytes, 8, std::uint16_t{64});
  std::fill_n(shape.rows, 8, std::uint8_t{16});
  asm volatile("" : : "r"(&shape) : "memory");  // the compiler believes that the instruction reads eight bytes of it
  _tile_loadconfig(&shape);
}

__attribute__((target("amx-tile,amx-int8"))) std::int64_t amx_round(std::int64_t count) {
  begin_tiles();
  for (std::int64_t i = 0; i < count; ++i) {
    _tile_dpbsud(0, 4, 6);
    _tile_dpbsud(1, 5, 6);
    _tile_dpbsud(2, 4, 7);
    _tile_dpbsud(3, 5, 7);
  }
  _tile_release();
  return count * 4 * 16 * 16 * 64 * 2;
}

__attribute__((target("amx-tile,amx-bf16"))) std::int64_t amx_float_round(std::int64_t count) {
  begin_tiles();
  for (std::int64_t i = 0; i < count; ++i) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 5, 6);
    _tile_dpbf16ps(2, 4, 7);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_release();
  return count * 4 * 16 * 16 * 32 * 2;
}
#endif

std::int64_t scalar_float_round(std::int64_t count) {
  float sums[chains] = {};
  for (std::int64_t i = 0; i < count; ++i)
    for (int c = 0; c < chains; ++c) sums[c] = sums[c] * 0.5f + 1.0f;
  asm volatile("" : : "r"(sums) : "memory");
  return count * chains * 2;
}

#if defined(__x86_64__)
__attribute__((target("avx512f,avx512bf16"))) std::int64_t avx512_bf16_round(std::int64_t count) {
  __m512 sums[chains];
#pragma GCC unroll 16
  for (int c = 0; c < chains; ++c) sums[c] = _mm512_setzero_ps();
  const auto a = (__m512bh)_mm512_set1_epi32(0x3f803f80);  // ones
  for (std::int64_t i = 0; i < count; ++i) {
#pragma GCC unroll 16
    for (int c = 0; c < chains; ++c) {
      sums[c] = _mm512_dpbf16_ps(sums[c], a, a);
      asm volatile("" : "+v"(sums[c]));
    }
  }
  return count * chains * 32 * 2;
}

__attribute__((target("avx512f"))) std::int64_t avx512_float_round(std::int64_t count) {
  __m512 sums[chains];
#pragma GCC unroll 16
  for (int c = 0; c < chains; ++c) sums[c] = _mm512_setzero_ps();
  const __m512 a = _mm512_set1_ps(0.5f);
  for (std::int64_t i = 0; i < count; ++i) {
#pragma GCC unroll 16
    for (int c = 0; c < chains; ++c) {
      sums[c] = _mm512_fmadd_ps(sums[c], a, a);
      asm volatile("" : "+v"(sums[c]));
    }
  }
  return count * chains * 16 * 2;
}

__attribute__((target("avx2,fma"))) std::int64_t avx2_float_round(std::int64_t count) {
  constexpr int sums_kept = 12;
  __m256 sums[sums_kept];
#pragma GCC unroll 12
  for (int c = 0; c < sums_kept; ++c) sums[c] = _mm256_setzero_ps();
  const __m256 a = _mm256_set1_ps(0.5f);
  for (std::int64_t i = 0; i < count; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < sums_kept; ++c) {
      sums[c] = _mm256_fmadd_ps(sums[c], a, a);
      asm volatile("" : "+x"(sums[c]));
    }
  }
  return count * sums_kept * 8 * 2;
}
#endif

std::int64_t run_float_round(isa which, std::int64_t count) {
#if defined(__x86_64__)
  if (which == isa::amx) return amx_float_round(count / 16);
  if (which == isa::avx512bf16) return avx512_bf16_round(count);
  if (which == isa::avx512vnni) return avx512_float_round(count);
  if (which == isa::avx_vnni || which == isa::avx2) return avx2_float_round(count);
#endif
  return scalar_float_round(which == isa::scalar ? count / 8 : count);
}

std::int64_t run_round(isa which, std::int64_t count) {
#if defined(__x86_64__)
  if (which == isa::amx) return amx_round(count / 16);
  if (which == isa::avx512vnni || which == isa::avx512bf16) return avx512vnni_round(count);
  if (which == isa::avx_vnni) return avx_vnni_round(count);
  if (which == isa::avx2) return avx2_round(count);
#endif
  return scalar_round(which == isa::scalar ? count / 8 : count);
}

double arithmetic_rate(thread_team& team, isa which, std::int64_t (*run)(isa, std::int64_t)) {
  double best = 0;
  for (int pass = 0; pass < 3; ++pass) {
    std::atomic<std::int64_t> ops{0};
    const auto start = clock::now();
    team.run([&](int, int) { ops += run(which, rounds); });
    best = std::max(best, static_cast<double>(ops) / seconds_since(start));
  }
  return best;
}

}  // namespace

result<machine_limits> measure_limits(thread_team& team, isa which) {
  auto buffer = memory::allocate_host(buffer_bytes);
  if (!buffer) return buffer.why();
  auto* bytes = static_cast<std::uint8_t*>(buffer->data());
  team.run([&](int thread, int threads) {  // first touch; without it every page is the one page of zeros
    const share mine = team.share_of(buffer_bytes, thread, threads);
    std::fill(bytes + mine.first, bytes + mine.last, static_cast<std::uint8_t>(thread + 1));
  });
  return machine_limits{read_rate(team, *buffer), arithmetic_rate(team, which, run_round),
                        arithmetic_rate(team, which, run_float_round)};
}

}  // namespace troupe::kernels
