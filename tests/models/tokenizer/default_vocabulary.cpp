// The default model's vocabulary, from where `troupe pull` puts the model.
#include <cstdlib>
#include <filesystem>

#include "fixtures.hpp"
#include "models/gguf/gguf_vocabulary.hpp"

namespace troupe::models::testing {
namespace {

std::filesystem::path cache_folder() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache && *cache) return cache;
  const char* home = std::getenv("HOME");
  return std::filesystem::path(home ? home : "") / ".cache";
}

}  // namespace

std::optional<vocabulary_data> default_vocabulary() {
  const auto path = cache_folder() / "troupe/models/smollm2-135m-instruct.gguf";
  if (!std::filesystem::exists(path)) return std::nullopt;
  const auto file = gguf_file::open(path.string()).value_or_throw();
  return read_vocabulary(file).value_or_throw();
}

}  // namespace troupe::models::testing
