// Looking things up in a request's head.
#include "server/request_head.hpp"

#include <algorithm>

namespace troupe::server {
namespace {

char lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

/// Calls `see` with each part of `text` between separators until it says true.
template <class See>
bool any_part(std::string_view text, char separator, See see) {
  while (true) {
    const auto end = text.find(separator);
    if (see(text.substr(0, end))) return true;
    if (end == text.npos) return false;
    text.remove_prefix(end + 1);
  }
}

}  // namespace

bool same_word(std::string_view a, std::string_view b) noexcept {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) { return lower(x) == lower(y); });
}

std::string_view trimmed(std::string_view text) noexcept {
  const auto first = text.find_first_not_of(" \t");
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

std::string_view request_head::path() const noexcept { return std::string_view(target).substr(0, target.find('?')); }

std::string_view request_head::query(std::string_view name) const noexcept {
  const auto mark = target.find('?');
  if (mark == target.npos) return {};
  std::string_view value;
  any_part(std::string_view(target).substr(mark + 1), '&', [&](std::string_view part) {
    if (part.size() <= name.size() || part[name.size()] != '=' || part.substr(0, name.size()) != name) return false;
    value = part.substr(name.size() + 1);
    return true;
  });
  return value;
}

std::string_view request_head::field(std::string_view name) const noexcept {
  for (const auto& [key, value] : fields)
    if (same_word(key, name)) return value;
  return {};
}

std::size_t request_head::count(std::string_view name) const noexcept {
  return static_cast<std::size_t>(
      std::count_if(fields.begin(), fields.end(), [&](const auto& f) { return same_word(f.first, name); }));
}

bool request_head::lists(std::string_view name, std::string_view token) const noexcept {
  for (const auto& [key, value] : fields)
    if (same_word(key, name) &&
        any_part(value, ',', [&](std::string_view part) { return same_word(trimmed(part), token); }))
      return true;
  return false;
}

}  // namespace troupe::server
