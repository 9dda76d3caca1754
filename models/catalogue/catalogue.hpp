// The models that Troupe knows by name: what they are, under which licence, and where their bytes are to be found.
// Knows no network: pull.hpp fetches.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace troupe::models {

/// A model file inside a wheel of the Python package index. The index that the user's own pip is set to is asked for
/// the wheel, so mirrors and proxies hold here too, and no host is named in this program.
struct catalogue_entry {
  std::string_view name;         ///< what the user types; the cached file is NAME.gguf
  std::string_view description;  ///< one line
  std::string_view licence;      ///< SPDX identifier
  std::string_view package;      ///< of the Python package index
  std::string_view version;
  std::string_view member;  ///< the model's path inside the wheel
  std::string_view sha256;  ///< of the model file, lower-case hexadecimal
  std::uint64_t bytes = 0;  ///< of the model file
};

inline constexpr std::string_view default_model = "smollm2-135m-instruct";

std::span<const catalogue_entry> catalogue() noexcept;

/// The entry of that name, or null.
const catalogue_entry* find_in_catalogue(std::string_view name) noexcept;

}  // namespace troupe::models
