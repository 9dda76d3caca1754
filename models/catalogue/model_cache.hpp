// The directory of models on this machine: from what a user calls a model to a file. Knows not what is in a model file,
// and fetches nothing.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <troupe/result.hpp>

namespace troupe::models {

struct cached_model {
  std::string name;
  std::filesystem::path path;
  std::uint64_t bytes = 0;
};

class model_cache {
public:
  /// ${XDG_CACHE_HOME:-~/.cache}/troupe/models. Nothing is created here.
  model_cache();
  explicit model_cache(std::filesystem::path directory);

  const std::filesystem::path& directory() const noexcept { return directory_; }
  /// Beside it: where repacked weights are kept (memory/copy_folder.hpp).
  std::filesystem::path copies() const { return directory_.parent_path() / "repacked"; }

  /// Where the model of that name is, or will be. Only for names that is_model_name() accepts.
  std::filesystem::path path_of(std::string_view name) const;

  /// The file that `name_or_path` means: a name in the cache, or a path (what holds a '/' or ends in ".gguf").
  /// not_found says what to do: the `troupe pull` line, where there is one.
  result<std::filesystem::path> resolve(std::string_view name_or_path) const;

  /// Every finished model in the directory, by name. A directory that cannot be read holds none.
  std::vector<cached_model> list() const;

private:
  std::filesystem::path directory_;
};

/// 1 to 128 of a-z A-Z 0-9 . _ -, not starting with a dot: cannot leave a directory, nor hide in one.
bool is_model_name(std::string_view name) noexcept;

}  // namespace troupe::models
