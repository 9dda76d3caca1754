// Finds models by name or path.
#include "models/catalogue/model_cache.hpp"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include <pwd.h>
#include <unistd.h>

#include "models/catalogue/catalogue.hpp"

namespace troupe::models {
namespace {

namespace fs = std::filesystem;

fs::path home_directory() {
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0') return home;
  const passwd* entry = getpwuid(getuid());  // services are often started without HOME
  return entry != nullptr && entry->pw_dir != nullptr ? entry->pw_dir : "/";
}

fs::path default_directory() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  // The XDG base directory specification: a relative path is to be ignored.
  const bool given = cache != nullptr && *cache == '/';
  return (given ? fs::path(cache) : home_directory() / ".cache") / "troupe" / "models";
}

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

error no_such_model(std::string_view name) {
  const std::string quoted = "'" + std::string(name) + "'";
  if (find_in_catalogue(name) != nullptr)
    return {errc::not_found,
            "the model " + quoted + " is not on this machine yet: run `troupe pull " + std::string(name) + "`",
            "model"};
  if (is_file(name))
    return {
        errc::not_found,
        "no model is called " + quoted + "; to mean the file of that name here, write './" + std::string(name) + "'",
        "model"};
  return {errc::not_found,
          "no model is called " + quoted + ": give the path of a GGUF file, or run `troupe pull " +
              std::string(default_model) + "` and use that name (`troupe models` lists all)",
          "model"};
}

}  // namespace

bool is_model_name(std::string_view name) noexcept {
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
  };
  return !name.empty() && name.size() <= 128 && name.front() != '.' && std::all_of(name.begin(), name.end(), fits);
}

model_cache::model_cache() : directory_(default_directory()) {}

model_cache::model_cache(fs::path directory) : directory_(std::move(directory)) {}

fs::path model_cache::path_of(std::string_view name) const { return directory_ / (std::string(name) + ".gguf"); }

result<fs::path> model_cache::resolve(std::string_view name_or_path) const {
  if (is_model_name(name_or_path) && is_file(path_of(name_or_path))) return path_of(name_or_path);
  const fs::path path(name_or_path);
  const bool looks_like_path = name_or_path.find('/') != name_or_path.npos || name_or_path.ends_with(".gguf");
  if (!looks_like_path) return no_such_model(name_or_path);
  if (is_file(path)) return path;
  std::error_code ignored;
  if (fs::is_directory(path, ignored))
    return error{errc::not_found, "'" + path.string() + "' is a directory: a GGUF file is needed", "model"};
  return error{errc::not_found, "there is no file '" + path.string() + "'", "model"};
}

std::vector<cached_model> model_cache::list() const {
  std::vector<cached_model> models;
  std::error_code failed;
  for (fs::directory_iterator at(directory_, failed), end; !failed && at != end; at.increment(failed)) {
    std::error_code ignored;
    const fs::path& path = at->path();
    if (path.extension() != ".gguf" || !is_model_name(path.filename().string()) || !is_file(path)) continue;
    models.push_back({path.stem().string(), path, fs::file_size(path, ignored)});
  }
  std::sort(models.begin(), models.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return models;
}

}  // namespace troupe::models
