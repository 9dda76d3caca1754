// Finds the tokens that are literal text, control tokens and user-defined ones, in a text.
// Knows nothing of merging. Of the tokens that begin at one place the longest wins; the leftmost place comes first.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace troupe::models {

class literal_tokens {
public:
  static constexpr size_t longest_allowed = 256;  ///< bytes; bounds the work per character of text

  struct entry {
    std::string text;  ///< 1 to longest_allowed bytes
    int32_t id = -1;
    bool control = false;
  };

  struct match {
    size_t length = 0;  ///< 0: none begins here
    int32_t id = -1;
  };

  literal_tokens() = default;
  explicit literal_tokens(std::vector<entry> entries);

  /// The longest that begins at text[at]; control tokens count only if they end at or before `trusted_end`.
  match at(std::string_view text, size_t at, size_t trusted_end) const noexcept;

  /// The first place from `from` on whose byte begins some token, or text.size().
  size_t next_candidate(std::string_view text, size_t from) const noexcept;

private:
  std::vector<entry> entries_;                 // sorted by text
  std::array<uint32_t, 257> first_of_byte_{};  // entries that begin with byte b: [b] up to [b + 1]
};

}  // namespace troupe::models
