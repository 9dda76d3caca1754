// Every kernel in plain loops: what runs on a machine without vector paths, and the oracle of their tests.
// Knows no instruction set.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cpu/half.hpp"
#include "kernels/cpu/kernel_set.hpp"
#include "kernels/cpu/packed_tiles.hpp"
#include "kernels/cpu/sample_passes.hpp"
#include "kernels/cpu/tile_reading.hpp"

namespace troupe::kernels {
namespace {

using memory::dtype;

// NaN and infinity poison the scale, and through it every output of the row: the request fails, nobody else's.
void quantise(const float* x, std::int64_t n, std::int64_t group, std::int8_t* quants, activation_block* blocks) {
  for (std::int64_t b = 0; b < n / quant_block; ++b, x += quant_block, quants += group * quant_block) {
    float largest = 0.0f;
    bool finite = true;
    for (std::int64_t i = 0; i < quant_block; ++i) {
      largest = std::max(largest, std::fabs(x[i]));
      finite = finite && std::isfinite(x[i]);
    }
    const float inverse = finite && largest > 0.0f ? 127.0f / largest : 0.0f;
    std::int32_t sums[2] = {};
    for (std::int64_t i = 0; i < quant_block; ++i) {
      const float scaled = std::isfinite(inverse) && finite ? x[i] * inverse : 0.0f;
      quants[i] = static_cast<std::int8_t>(std::nearbyint(scaled));
      sums[i / 16] += quants[i];
    }
    const float scale = finite ? largest / 127.0f : std::numeric_limits<float>::quiet_NaN();
    blocks[b * group] = block_of(scale, sums[0], sums[1]);
  }
}

void rms_norm(const float* x, const float* weight, std::int64_t n, float eps, float* out) {
  float squares = 0.0f;
  for (std::int64_t i = 0; i < n; ++i) squares += x[i] * x[i];
  const float factor = 1.0f / std::sqrt(squares / static_cast<float>(n) + eps);
  for (std::int64_t i = 0; i < n; ++i) out[i] = x[i] * factor * weight[i];
}

void silu_mul(const float* gate, const float* up, std::int64_t n, float* out) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = gate[i] / (1.0f + std::exp(-gate[i])) * up[i];
}

void best_of_runs(const float* x, std::int64_t n, std::int64_t run, float* best) {
  constexpr float minus_infinity = -std::numeric_limits<float>::infinity();
  for (std::int64_t first = 0; first < n; first += run) {
    float top = minus_infinity, poison = 0.0f;  // x - x is 0 for a finite x, NaN for an infinite one or a NaN
    for (std::int64_t i = first; i < std::min(n, first + run); ++i) {
      top = x[i] > top ? x[i] : top;
      poison += x[i] == minus_infinity ? 0.0f : x[i] - x[i];
    }
    best[first / run] = top + poison;
  }
}

double exponential_sums(const float* x, std::int64_t n, float largest, float factor, float* sums) {
  double total = 0;
  for (std::int64_t first = 0; first < n; first += sample_block) {
    float lanes[sample_block] = {};
    for (std::int64_t i = first; i < std::min(n, first + sample_block); ++i)
      lanes[i - first] = exp_of_negative((x[i] - largest) * factor);
    for (std::int64_t half = sample_block / 2; half > 0; half /= 2)
      for (std::int64_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
    sums[first / sample_block] = lanes[0];
    total += static_cast<double>(lanes[0]);
  }
  return total;
}

double weigh(const float* x, std::int64_t n, float largest, float factor, float* weights) {
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    weights[i] = exp_of_negative((x[i] - largest) * factor);
    sum += static_cast<double>(weights[i]);
  }
  return sum;
}

token_tally tally(const float* x, const float* weights, std::int64_t n, float limit) {
  token_tally all;
  for (std::int64_t i = 0; i < n; ++i) {
    if (!(x[i] >= limit)) continue;
    ++all.count;
    all.mass += mass_of(weights[i]);
  }
  return all;
}

bool is_within(float x, logit_range range) { return x >= range.low && x < range.high; }

std::int64_t gather(const float* x, std::int64_t n, logit_range within, std::int32_t* places) {
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    places[count] = static_cast<std::int32_t>(i);
    count += is_within(x[i], within) ? 1 : 0;
  }
  return count;
}

std::int64_t survey(const float* x, const float* weights, std::int64_t n, const logit_range (&within)[2],
                    std::uint64_t (&masses)[3], std::int32_t* places) {
  for (int i = 0; i < 2; ++i) masses[i] = tally(x, weights, n, within[i].high).mass;
  masses[2] = tally(weights, weights, n, 0.0f).mass;
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    places[count] = static_cast<std::int32_t>(i);
    count += is_within(x[i], within[0]) || is_within(x[i], within[1]) ? 1 : 0;
  }
  return count;
}

std::int32_t dot(const std::int16_t (&w)[quant_block], const std::int8_t* a, std::int64_t first, std::int64_t last) {
  std::int32_t sum = 0;
  for (std::int64_t i = first; i < last; ++i) sum += w[i] * a[i];
  return sum;
}

/// The block's term joins an output's sum, in the order of kernel_set.hpp.
template <dtype Type>
float add_block(float sum, const std::int16_t (&w)[quant_block], const row_scales& scales, const std::int8_t* a,
                const activation_block& block) noexcept {
  constexpr tile_layout layout = layout_of(Type);
  if constexpr (layout.halves() == 1) {
    sum = std::fma(static_cast<float>(dot(w, a, 0, 32)), scales.d[0] * block.scale, sum);
  } else {
    const float first = static_cast<float>(dot(w, a, 0, 16)) * scales.d[0];
    sum = std::fma(std::fma(static_cast<float>(dot(w, a, 16, 32)), scales.d[1], first), block.scale, sum);
  }
  if constexpr (layout.has_min) sum = std::fma(scales.m[layout.halves() - 1], block.scaled_sum, sum);
  if constexpr (layout.has_min && layout.halves() == 2)
    sum = std::fma(scales.m[0] - scales.m[1], block.scaled_first, sum);
  return sum;
}

/// sums[token] of one row of a tile, for the tokens of a group.
template <dtype Type>
void quantised_row(const product_args& args, const token_group& group, const std::byte* tile, std::int64_t row,
                   float* sums) noexcept {
  constexpr tile_layout layout = layout_of(Type);
  const std::int64_t blocks = args.cols / quant_block;
  const std::int8_t* quants = args.quants + group.first * args.cols;
  const activation_block* inputs = args.blocks + group.first * blocks;
  std::uint8_t u[quant_block];
  std::int16_t w[quant_block];
  for (std::int64_t b = 0; b < blocks; ++b) {
    const std::byte* columns = tile + b / layout.blocks * layout.group_bytes();
    const std::int64_t block = b % layout.blocks;
    read_quants<Type>(columns + layout.header_bytes() + block * layout.block_bytes(), row, u);
    for (std::int64_t i = 0; i < quant_block; ++i) w[i] = static_cast<std::int16_t>(u[i] - layout.offset);
    const row_scales scales = read_scales<Type>(columns, block, row);
    for (std::int64_t t = 0; t < group.size; ++t, quants += quant_block, ++inputs)
      sums[t] = add_block<Type>(sums[t], w, scales, quants, *inputs);
  }
}

float float_dot(dtype type, const std::byte* tile, std::int64_t row, std::int64_t cols, const float* x,
                float sum) noexcept {
  for (std::int64_t c = 0; c < cols; ++c) {
    const std::int64_t at = type == dtype::bf16 ? (c / 2 * tile_rows + row) * 2 + c % 2 : c * tile_rows + row;
    float w = 0.0f;
    std::uint16_t half = 0;
    if (type == dtype::f32) std::memcpy(&w, tile + 4 * at, 4);
    else std::memcpy(&half, tile + 2 * at, 2);
    if (type == dtype::f16) w = f16_to_f32(half);
    if (type == dtype::bf16) w = bf16_to_f32(half);
    sum = std::fma(w, x[c], sum);
  }
  return sum;
}

/// sums[token] of one row of a tile; float sums begin at what is there already.
void row_product(const product_args& args, const token_group& group, const std::byte* tile, std::int64_t row,
                 float* sums) noexcept {
  const auto quantised = [&](auto type) { quantised_row<type()>(args, group, tile, row, sums); };
  if (with_quantised(args.type, quantised, quantised_types{})) return;
  for (std::int64_t t = 0; t < group.size; ++t)
    sums[t] = float_dot(args.type, tile, row, args.cols, args.x + (group.first + t) * args.x_stride, sums[t]);
}

void product(const product_args& args) {
  const std::int64_t bytes = tile_bytes(args.type, args.cols);
  const token_groups groups(args.tokens, args.grouping);
  float sums[token_grouping{}.largest];
  for (std::int64_t row = args.first * tile_rows; row < std::min(args.last * tile_rows, args.rows); ++row) {
    const std::byte* tile = args.tiles + (row / tile_rows - args.first) * bytes;
    for (std::int64_t g = args.first_group; g < args.last_group; ++g) {
      const token_group group = groups[g];
      float* out = args.out + group.first * args.out_stride + row;
      for (std::int64_t t = 0; t < group.size; ++t) sums[t] = args.add ? out[t * args.out_stride] : 0.0f;
      row_product(args, group, tile, row % tile_rows, sums);
      for (std::int64_t t = 0; t < group.size; ++t, out += args.out_stride) *out = sums[t];
    }
  }
}

}  // namespace

const kernel_set& scalar_kernels() noexcept {
  static const kernel_set set{.which = isa::scalar,
                              .grouping = {},
                              .bf16_together = 1,
                              .quantise = quantise,
                              .to_bf16 = nullptr,
                              .rms_norm = rms_norm,
                              .silu_mul = silu_mul,
                              .product = product,
                              .attention = scalar_attention(),
                              .sampling = {.best_of_runs = best_of_runs,
                                           .exponential_sums = exponential_sums,
                                           .weigh = weigh,
                                           .tally = tally,
                                           .gather = gather,
                                           .survey = survey}};
  return set;
}

const kernel_set& kernels_for(isa which) noexcept {
#if defined(__x86_64__)
  switch (which) {
    case isa::scalar: return scalar_kernels();
    case isa::avx2: return avx2_kernels();
    case isa::avx_vnni: return avx_vnni_kernels();
    case isa::avx512vnni: return avx512vnni_kernels();
    case isa::avx512bf16: return avx512bf16_kernels();
    case isa::amx: return amx_kernels();
    case isa::neon:
    case isa::neon_i8mm: break;
  }
#elif defined(__aarch64__)
  if (which == isa::neon) return neon_kernels();
  if (which == isa::neon_i8mm) return neon_i8mm_kernels();
#endif
  return scalar_kernels();
}

}  // namespace troupe::kernels
