// The numbers of the GGUF format: metadata types and ggml tensor types. Knows no file.
// Source: the GGUF specification (ggml repository, docs/gguf.md) and the block layouts of ggml's quantisations.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "memory/tensor_view.hpp"

namespace troupe::models {

enum class gguf_type : std::uint32_t {
  uint8,
  int8,
  uint16,
  int16,
  uint32,
  int32,
  float32,
  boolean,
  string,
  array,
  uint64,
  int64,
  float64
};

/// Bytes of one value; 0 for strings and arrays, whose size is in the file. nullopt: not a type.
std::optional<std::uint32_t> gguf_type_size(std::uint32_t type) noexcept;
std::string_view gguf_type_name(gguf_type type) noexcept;

/// A tensor type that ggml has. `readable` is set for those that Troupe computes with.
struct ggml_type_info {
  std::uint32_t number;
  std::string_view name;
  std::uint32_t block;        ///< elements a block
  std::uint32_t block_bytes;  ///< bytes a block
  std::optional<memory::dtype> readable;
};

/// nullptr: no such type.
const ggml_type_info* find_ggml_type(std::uint32_t number) noexcept;

/// The names of those that are readable, for people.
std::string readable_types();

}  // namespace troupe::models
