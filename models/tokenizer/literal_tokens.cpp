// A sorted list serves as the trie: each further byte narrows the range of entries that share the prefix.
#include "models/tokenizer/literal_tokens.hpp"

#include <algorithm>

namespace troupe::models {
namespace {

uint8_t byte_at(std::string_view text, size_t at) { return static_cast<uint8_t>(text[at]); }

}  // namespace

literal_tokens::literal_tokens(std::vector<entry> entries) : entries_(std::move(entries)) {
  std::sort(entries_.begin(), entries_.end(), [](const entry& a, const entry& b) { return a.text < b.text; });
  for (const entry& e : entries_) ++first_of_byte_[byte_at(e.text, 0) + 1];
  for (size_t b = 0; b < 256; ++b) first_of_byte_[b + 1] += first_of_byte_[b];
}

size_t literal_tokens::next_candidate(std::string_view text, size_t from) const noexcept {
  if (entries_.empty()) return text.size();
  while (from < text.size()) {
    const uint8_t b = byte_at(text, from);
    if (first_of_byte_[b] != first_of_byte_[b + 1]) break;
    ++from;
  }
  return from;
}

literal_tokens::match literal_tokens::at(std::string_view text, size_t at, size_t trusted_end) const noexcept {
  const uint8_t first = byte_at(text, at);
  auto low = entries_.begin() + first_of_byte_[first];
  auto high = entries_.begin() + first_of_byte_[first + 1];
  match best;
  for (size_t depth = 1; low != high; ++depth) {
    // All of [low, high) begin with text[at, at + depth); the one that is no longer, if any, sorts first.
    if (low->text.size() == depth) {
      if (!low->control || at + depth <= trusted_end) best = {depth, low->id};
      if (++low == high) break;
    }
    if (at + depth == text.size()) break;
    const uint8_t next = byte_at(text, at + depth);
    low = std::partition_point(low, high, [&](const entry& e) { return byte_at(e.text, depth) < next; });
    high = std::partition_point(low, high, [&](const entry& e) { return byte_at(e.text, depth) == next; });
  }
  return best;
}

}  // namespace troupe::models
