// Finds the first of several stop strings in text that arrives in pieces. Knows no tokens.
// One Knuth-Morris-Pratt automaton per string (Knuth, Morris, Pratt 1977): a few steps per byte and string whatever the
// text, a table of 2 bytes per byte of the strings.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace troupe::actors {

class stop_matcher {
public:
  stop_matcher() = default;
  /// Strings are 1 to 65,535 bytes; empty ones are ignored.
  explicit stop_matcher(const std::vector<std::string>& stops);

  struct match {
    std::size_t end = 0;     ///< offset in this piece behind the stop string's last byte
    std::size_t length = 0;  ///< of the stop string; it may have begun in an earlier piece
  };
  /// Reads a piece up to the first place where a stop string ends; of those that end there, the longest.
  std::optional<match> push(std::string_view piece);

  /// How many of the last bytes could still become a stop string.
  std::size_t open_bytes() const noexcept;

private:
  struct pattern {
    std::string text;
    std::vector<std::uint16_t> fallback;  // [n]: the longest proper border of the first n bytes
  };
  std::shared_ptr<const std::vector<pattern>> patterns_;  // shared by copies
  std::vector<std::uint16_t> matched_;                    // per pattern: bytes matched so far
};

}  // namespace troupe::actors
