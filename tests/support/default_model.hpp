// Where the default model lies, for tests that need the real one.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>

#include "support/catch.hpp"

namespace troupe::test {

/// Its path; nothing, after a warning that says so, where it was not fetched.
inline std::optional<std::string> default_model() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  const std::string root =
      cache != nullptr && *cache != '\0' ? cache : std::string(home == nullptr ? "" : home) + "/.cache";
  const std::string path = root + "/troupe/models/smollm2-135m-instruct.gguf";
  if (std::filesystem::exists(path)) return path;
  WARN("skipped: " << path << " is not there (./serve or `troupe pull smollm2-135m-instruct` fetches it)");
  return std::nullopt;
}

}  // namespace troupe::test
