// The types that K and V can be kept in. Knows no layout: each lane has its own.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace troupe::kernels {

enum class kv_type : std::uint8_t {
  i16,  ///< 16-bit integers, a scale a token and head
  f16,
  bf16,
  q8_0,  ///< 8-bit integers, a scale a token and head
  q4_0,  ///< 4 bits: the nearest of 16 numbers, a scale a token and head
};
inline constexpr std::array all_kv_types{kv_type::i16, kv_type::f16, kv_type::bf16, kv_type::q8_0, kv_type::q4_0};

constexpr std::string_view to_string(kv_type type) noexcept {
  constexpr std::string_view names[] = {"i16", "f16", "bf16", "q8_0", "q4_0"};
  return names[static_cast<std::size_t>(type)];
}

constexpr std::optional<kv_type> parse_kv_type(std::string_view name) noexcept {
  for (const kv_type type : all_kv_types)
    if (to_string(type) == name) return type;
  return {};
}

/// "i16, f16, ...": for messages.
inline std::string kv_type_names() {
  std::string names;
  for (const kv_type type : all_kv_types) names.append(names.empty() ? "" : ", ").append(to_string(type));
  return names;
}

}  // namespace troupe::kernels
