// The failure function and the scan.
#include "actors/stream/stop_matcher.hpp"

#include <algorithm>

namespace troupe::actors {
namespace {

std::vector<std::uint16_t> borders_of(std::string_view text) {
  std::vector<std::uint16_t> border(text.size() + 1, 0);
  std::uint16_t k = 0;
  for (std::size_t i = 1; i < text.size(); ++i) {
    while (k > 0 && text[i] != text[k]) k = border[k];
    if (text[i] == text[k]) ++k;
    border[i + 1] = k;
  }
  return border;
}

}  // namespace

stop_matcher::stop_matcher(const std::vector<std::string>& stops) {
  auto patterns = std::make_shared<std::vector<pattern>>();
  for (const std::string& stop : stops)
    if (!stop.empty() && stop.size() <= UINT16_MAX) patterns->push_back({stop, borders_of(stop)});
  matched_.assign(patterns->size(), 0);
  patterns_ = std::move(patterns);
}

std::optional<stop_matcher::match> stop_matcher::push(std::string_view piece) {
  if (matched_.empty()) return std::nullopt;
  for (std::size_t i = 0; i < piece.size(); ++i) {
    std::size_t longest = 0;
    for (std::size_t p = 0; p < matched_.size(); ++p) {
      const pattern& one = (*patterns_)[p];
      std::uint16_t& k = matched_[p];
      while (k > 0 && one.text[k] != piece[i]) k = one.fallback[k];
      if (one.text[k] == piece[i]) ++k;
      if (k < one.text.size()) continue;
      longest = std::max(longest, one.text.size());
      k = one.fallback[k];
    }
    if (longest > 0) return match{i + 1, longest};
  }
  return std::nullopt;
}

std::size_t stop_matcher::open_bytes() const noexcept {
  return matched_.empty() ? 0 : *std::max_element(matched_.begin(), matched_.end());
}

}  // namespace troupe::actors
