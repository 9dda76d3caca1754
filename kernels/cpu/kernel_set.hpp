// The inner loops that each instruction set provides, as a table of plain functions. They run on one thread, on
// ranges that the lane chose. Knows no thread, no arena and no model.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/attention_kernels.hpp"
#include "kernels/cpu/isa.hpp"
#include "kernels/cpu/sampling_kernels.hpp"
#include "memory/tensor_view.hpp"

namespace troupe::kernels {

/// What the product needs to know of 32 quantised activations a = scale * q: their scale, and what the offsets of
/// weights contribute. start8 = -8 * sum(q) and start128 = -128 * sum(q) begin the integer dot products of Q4_0 and
/// Q8_0.
struct activation_block {
  float scale = 0.0f;
  float scaled_sum = 0.0f;    ///< scale * sum(q)
  float scaled_first = 0.0f;  ///< scale * sum of the first 16
  std::int32_t start8 = 0;
  std::int32_t start128 = 0;
  std::int16_t sums[2] = {};  ///< of the first 16 and the last 16 q
};

namespace {  // each instruction set's own
/// From the sums of the two halves.
inline activation_block block_of(float scale, std::int32_t first, std::int32_t second) noexcept {
  const std::int32_t sum = first + second;
  return {scale,
          scale * static_cast<float>(sum),
          scale * static_cast<float>(first),
          -8 * sum,
          -128 * sum,
          {static_cast<std::int16_t>(first), static_cast<std::int16_t>(second)}};
}
}  // namespace

/// Tokens are multiplied a few at once, so the quantised inputs of a few lie together: group after group, in a group
/// block after block of 32 columns, in a block token after token. How tokens fall into groups depends on their number
/// and on what the set of kernels likes; the last ones are shared out so that no small group is left over.
struct token_grouping {
  std::int64_t usual = 6;  ///< fill the registers of AVX-512 best
  std::int64_t largest = 8;

  bool operator==(const token_grouping&) const = default;
};
struct token_group {
  std::int64_t first = 0;
  std::int64_t size = 0;
};
class token_groups {
public:
  constexpr token_groups(std::int64_t tokens, token_grouping how) noexcept
      : how_(how), tokens_(tokens),
        full_(tokens <= 2 * how.largest ? 0 : (tokens - 2 * how.largest + how.usual - 1) / how.usual) {}
  constexpr std::int64_t count() const noexcept {
    const std::int64_t rest = tokens_ - how_.usual * full_;
    return full_ + (rest > how_.largest ? 2 : rest > 0 ? 1 : 0);
  }
  constexpr token_group operator[](std::int64_t i) const noexcept {
    if (i < full_) return {how_.usual * i, how_.usual};
    const std::int64_t first = how_.usual * full_, rest = tokens_ - first;
    if (rest <= how_.largest) return {first, rest};
    const std::int64_t half = (rest + 1) / 2;
    return i == full_ ? token_group{first, half} : token_group{first + half, rest - half};
  }
  constexpr token_group of(std::int64_t token) const noexcept {
    if (token < how_.usual * full_) return {token / how_.usual * how_.usual, how_.usual};
    const token_group one = (*this)[full_];
    return token < one.first + one.size ? one : (*this)[full_ + 1];
  }

private:
  token_grouping how_;
  std::int64_t tokens_;
  std::int64_t full_;  ///< groups of the usual size
};

namespace {  // each instruction set's own
/// bf16 numbers of a token of `cols` columns, `together` of which lie together.
constexpr std::int64_t halves_of(std::int64_t cols, std::int64_t together) noexcept {
  return (cols + together - 1) / together * together;
}
}  // namespace

/// out[token][rows] (+)= x[token] . tile rows, for tiles [first, last) of one part and the tokens of some groups.
/// Each output is one chain of float operations over the k-blocks, in order, whatever the range and the tokens; it
/// begins at 0, or at what is there if the product adds. With the block's d and m of tile_layout.hpp and dot = sum of
/// (u - offset) * q:
///   acc = fma(float(dot), d * scale, acc); or where the block's halves have a d each
///   acc = fma(fma(float(dot1), d1, float(dot0) * d0), scale, acc)
///   and where there is an m, then acc = fma(m, scaled_sum, acc); of Q2_K, whose halves have an m each, that is the
///   second half's m, and then acc = fma(m0 - m1, scaled_first, acc).
struct product_args {
  memory::dtype type = memory::dtype::f32;
  const std::byte* tiles = nullptr;  ///< tile `first` begins here
  std::int64_t first = 0;
  std::int64_t last = 0;
  const std::byte* next_tiles =
      nullptr;            ///< what this thread multiplies after them, of the same type, or null: fetched early
  std::int64_t rows = 0;  ///< of the part: the last tile may be partly padding
  std::int64_t cols = 0;
  std::int64_t tokens = 0;  ///< of the step: they decide the groups
  token_grouping grouping;  ///< `largest` is the set's own; `usual`, at least half of it, moves no bit
  std::int64_t first_group = 0;
  std::int64_t last_group = 0;
  const std::int8_t* quants = nullptr;       ///< of token 0, in groups: cols a token; for quantised weights
  const activation_block* blocks = nullptr;  ///< of token 0, in groups: cols / 32 a token
  const float* x = nullptr;                  ///< of token 0, for float weights
  std::int64_t x_stride = 0;
  const std::uint16_t* halves = nullptr;  ///< bf16, of token 0, in groups: cols filled up; for BF16 weights
  float* out = nullptr;                   ///< token 0, row 0 of the part
  std::int64_t out_stride = 0;
  bool add = false;
};

struct kernel_set {
  isa which;
  token_grouping grouping;     ///< where nobody has measured a better one
  std::int64_t bf16_together;  ///< columns that lie together in a token's bf16
  /// Quantises x[n] of one token of a group of `group` tokens: its blocks are `group` blocks apart.
  void (*quantise)(const float* x, std::int64_t n, std::int64_t group, std::int8_t* quants, activation_block* blocks);
  /// bf16 of x[n] of one token of a group, `bf16_together` columns after as many, `group` times as far apart, the last
  /// ones filled up with zero; null: BF16 weights take x as it is.
  void (*to_bf16)(const float* x, std::int64_t n, std::int64_t group, std::uint16_t* out);
  void (*rms_norm)(const float* x, const float* weight, std::int64_t n, float eps, float* out);
  void (*silu_mul)(const float* gate, const float* up, std::int64_t n, float* out);
  void (*product)(const product_args& args);
  attention_kernels attention;
  sampling_kernels sampling;
};

/// The table for an instruction set; the scalar one where this build lacks it. The caller has asked machine_has.
const kernel_set& kernels_for(isa which) noexcept;

// One per file. Each file is compiled for its instruction set and shares no inline function with another.
const kernel_set& scalar_kernels() noexcept;
#if defined(__x86_64__)
const kernel_set& avx2_kernels() noexcept;
const kernel_set& avx_vnni_kernels() noexcept;
const kernel_set& avx512vnni_kernels() noexcept;
const kernel_set& avx512bf16_kernels() noexcept;
const kernel_set& amx_kernels() noexcept;
#elif defined(__aarch64__)
const kernel_set& neon_kernels() noexcept;
const kernel_set& neon_i8mm_kernels() noexcept;
#endif

}  // namespace troupe::kernels
