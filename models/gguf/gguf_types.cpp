// Tables of the GGUF format's numbers. Knows no file.
#include "models/gguf/gguf_types.hpp"

#include <algorithm>
#include <array>
#include <iterator>

namespace troupe::models {
namespace {

using memory::dtype;

struct value_type {
  std::string_view name;
  std::uint32_t size;
};

constexpr std::array<value_type, 13> value_types{{{"uint8", 1},
                                                  {"int8", 1},
                                                  {"uint16", 2},
                                                  {"int16", 2},
                                                  {"uint32", 4},
                                                  {"int32", 4},
                                                  {"float32", 4},
                                                  {"bool", 1},
                                                  {"string", 0},
                                                  {"array", 0},
                                                  {"uint64", 8},
                                                  {"int64", 8},
                                                  {"float64", 8}}};

// clang-format off
constexpr ggml_type_info tensor_types[] = {
    {0, "F32", 1, 4, dtype::f32},
    {1, "F16", 1, 2, dtype::f16},
    {2, "Q4_0", 32, 18, dtype::q4_0},
    {3, "Q4_1", 32, 20, dtype::q4_1},
    {6, "Q5_0", 32, 22, dtype::q5_0},
    {7, "Q5_1", 32, 24, dtype::q5_1},
    {8, "Q8_0", 32, 34, dtype::q8_0},
    {9, "Q8_1", 32, 36, std::nullopt},
    {10, "Q2_K", 256, 84, dtype::q2_k},
    {11, "Q3_K", 256, 110, dtype::q3_k},
    {12, "Q4_K", 256, 144, dtype::q4_k},
    {13, "Q5_K", 256, 176, dtype::q5_k},
    {14, "Q6_K", 256, 210, dtype::q6_k},
    {15, "Q8_K", 256, 292, std::nullopt},
    {16, "IQ2_XXS", 256, 66, std::nullopt},
    {17, "IQ2_XS", 256, 74, std::nullopt},
    {18, "IQ3_XXS", 256, 98, std::nullopt},
    {19, "IQ1_S", 256, 50, std::nullopt},
    {20, "IQ4_NL", 32, 18, dtype::iq4_nl},
    {21, "IQ3_S", 256, 110, std::nullopt},
    {22, "IQ2_S", 256, 82, std::nullopt},
    {23, "IQ4_XS", 256, 136, dtype::iq4_xs},
    {24, "I8", 1, 1, std::nullopt},
    {25, "I16", 1, 2, std::nullopt},
    {26, "I32", 1, 4, std::nullopt},
    {27, "I64", 1, 8, std::nullopt},
    {28, "F64", 1, 8, std::nullopt},
    {29, "IQ1_M", 256, 56, std::nullopt},
    {30, "BF16", 1, 2, dtype::bf16},
    {34, "TQ1_0", 256, 54, std::nullopt},
    {35, "TQ2_0", 256, 66, std::nullopt},
    {39, "MXFP4", 32, 17, dtype::mxfp4},
    {40, "NVFP4", 64, 36, std::nullopt},
    {41, "Q1_0", 128, 18, std::nullopt},
};
// clang-format on

constexpr bool sizes_agree() {
  for (const ggml_type_info& type : tensor_types) {
    if (!type.readable) continue;
    const memory::dtype_info layout = memory::info(*type.readable);
    if (layout.name != type.name || layout.block != static_cast<std::int32_t>(type.block) ||
        layout.block_bytes != static_cast<std::int32_t>(type.block_bytes))
      return false;
  }
  return true;
}
static_assert(sizes_agree());

}  // namespace

std::optional<std::uint32_t> gguf_type_size(std::uint32_t type) noexcept {
  if (type >= value_types.size()) return std::nullopt;
  return value_types[type].size;
}

std::string_view gguf_type_name(gguf_type type) noexcept {
  const auto number = static_cast<std::uint32_t>(type);
  return number < value_types.size() ? value_types[number].name : "?";
}

const ggml_type_info* find_ggml_type(std::uint32_t number) noexcept {
  const auto* found = std::find_if(std::begin(tensor_types), std::end(tensor_types),
                                   [number](const ggml_type_info& type) { return type.number == number; });
  return found == std::end(tensor_types) ? nullptr : found;
}

std::string readable_types() {
  std::string names;
  for (const ggml_type_info& type : tensor_types)
    if (type.readable) names += (names.empty() ? "" : ", ") + std::string(type.name);
  return names;
}

}  // namespace troupe::models
