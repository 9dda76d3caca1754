// UTF-8 one character at a time, and the three Unicode classes that pre-tokenizers ask about.
// Knows nothing of tokens. Any bytes will do: a byte that starts no valid sequence is a character by itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace troupe::models {

enum class character_class : uint8_t {
  letter,   ///< \p{L}
  number,   ///< \p{N}
  space,    ///< \s: White_Space other than \r and \n
  newline,  ///< \r or \n
  other,    ///< the rest: punctuation, symbols, marks, unassigned, invalid bytes
};

struct code_point {
  char32_t value = 0;
  uint8_t length = 0;  ///< bytes; for an invalid sequence, of its longest prefix that could have become valid (1 to 3)
  bool valid = false;  ///< a well-formed sequence (Unicode, table 3-7)
  bool truncated = false;  ///< not valid, but more bytes could make it so
};

/// Reads the character at the front of `text`, which is not empty. At most 4 bytes are looked at.
code_point read_code_point(std::string_view text) noexcept;

/// For any code point; a table look-up.
character_class class_of(char32_t value) noexcept;

struct classified {
  character_class kind;
  uint8_t length;  ///< 1 for an invalid byte
};

/// Length and class of the character at text[at]; `at` is inside the text.
classified classify(std::string_view text, size_t at) noexcept;

}  // namespace troupe::models
