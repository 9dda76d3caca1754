// How attention reads K and V of each type, in terms of `vec`: cells (kv_unit.hpp) become operands of a dot product.
// Part of vector_kernels.hpp.
//
// A page's `loads` steps of a dot product lie in one load of `bytes`; a step is `numbers` of them, of 16 tokens (K) or
// 16 dimensions (V). What they are multiplied with, queries and weights, is held as `number`s.
#pragma once

#include "kernels/cpu/attention_kernels.hpp"
#include "kernels/cpu/vector_rows.hpp"

namespace troupe::kernels {
namespace {

struct integer_page {
  using number = std::int16_t;
  using operand = vec::i32x16;
  using sums = vec::i32x16;
  static constexpr int numbers = 2;
  static constexpr bool floats = false;
  static sums none() { return vec::no_ints(); }
  static operand same(const number* from) { return vec::same_pair(from); }
  static void dot(sums& to, operand a, operand b) { to = vec::dot_pairs(to, a, b); }
  static f32x16 to_floats(sums x) { return vec::to_floats(x); }
};

struct float_page {
  using number = float;
  using operand = f32x16;
  using sums = f32x16;
  static constexpr int numbers = 1;
  static constexpr bool floats = true;
  static sums none() { return vec::set(0.0f); }
  static operand same(const number* from) { return vec::set(*from); }
  static void dot(sums& to, operand a, operand b) { to = vec::fma(a, b, to); }
  static f32x16 to_floats(sums x) { return x; }
};

template <kv_type Type>
struct page;

template <>
struct page<kv_type::i16> : integer_page {
  static constexpr int loads = 1;
  static constexpr std::int64_t bytes = 64;
  static operand load(const std::byte* from, int) { return vec::load_pairs(from); }
};
template <>
struct page<kv_type::q8_0> : integer_page {
  static constexpr int loads = 1;
  static constexpr std::int64_t bytes = 32;
  static operand load(const std::byte* from, int) { return vec::load_byte_pairs(from); }
};
template <>
struct page<kv_type::q4_0> : integer_page {
  static constexpr int loads = 4;
  static constexpr std::int64_t bytes = 64;
  static operand load(const std::byte* from, int step) { return vec::load_nibble_pairs(from, step); }
};
template <>
struct page<kv_type::f16> : float_page {
  static constexpr int loads = 1;
  static constexpr std::int64_t bytes = 32;
  static operand load(const std::byte* from, int) {
    return vec::load_f16(reinterpret_cast<const std::uint16_t*>(from));
  }
};
template <>
struct page<kv_type::bf16> : float_page {
  static constexpr int loads = 1;
  static constexpr std::int64_t bytes = 32;
  static operand load(const std::byte* from, int) { return vec::load_bf16(from); }
};

}  // namespace
}  // namespace troupe::kernels
