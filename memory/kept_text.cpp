// Sums, and a file put in place by its name.
#include "memory/kept_text.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <fstream>

namespace troupe::memory {
namespace {

constexpr std::size_t most_text = 64 << 10;

std::string sum_line(std::string_view text) { return "sum " + digest(text) + "\n"; }

}  // namespace

std::string kept_text(std::string_view heading, std::string_view fingerprint, std::string_view lines) {
  std::string text;
  for (const std::string_view part : {heading, std::string_view("\n"), fingerprint, std::string_view("\n"), lines})
    text += part;
  return text + sum_line(text);
}

std::optional<std::string> lines_of(std::string_view text, std::string_view heading, std::string_view fingerprint) {
  const std::string before = std::string(heading) + "\n" + std::string(fingerprint) + "\n";
  const auto end = text.rfind("sum ");
  if (!text.starts_with(before) || end == text.npos || end < before.size()) return std::nullopt;
  if (text.substr(end) != sum_line(text.substr(0, end))) return std::nullopt;
  return std::string(text.substr(before.size(), end - before.size()));
}

std::string read_kept(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(most_text, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(std::max<std::streamsize>(0, file.gcount())));
  return text;
}

/// What a process that is killed leaves behind is written over by the next one.
result<void> keep_text(const std::string& text, const copy_folder& folder, const std::string& path) {
  if (auto room = folder.make_room(static_cast<std::int64_t>(text.size()), path); !room) return room;
  const std::string part = path + ".part";
  std::ofstream file(part, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (file && std::rename(part.c_str(), path.c_str()) == 0) return {};
  std::remove(part.c_str());
  return error{errc::io, path + ": cannot be written", {}};
}

}  // namespace troupe::memory
