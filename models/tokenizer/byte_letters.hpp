// GPT-2's byte-to-unicode letters: each of the 256 bytes written as one printable character, as vocabularies store
// tokens. Knows nothing of vocabularies.
// Source: "Language Models are Unsupervised Multitask Learners" (Radford et al., 2019), bytes_to_unicode of its code.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace troupe::models {

/// The bytes that `text` stands for, or nothing if a character of it is none of the 256.
std::optional<std::string> bytes_of_letters(std::string_view text);

/// The other direction: one letter per byte, in UTF-8.
std::string letters_of_bytes(std::string_view bytes);

}  // namespace troupe::models
