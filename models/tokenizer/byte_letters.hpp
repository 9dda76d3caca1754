// GPT-2's byte-to-unicode letters: each of the 256 bytes written as one printable character, as vocabularies store
// tokens. Knows nothing of vocabularies.
// Source: "Language Models are Unsupervised Multitask Learners" (Radford et al., 2019), bytes_to_unicode of its code.
#pragma once

#include <string>
#include <string_view>

namespace troupe::models {

/// Appends the bytes that `text` stands for. False, and nothing appended, if a character of it is none of the 256.
bool append_bytes_of_letters(std::string_view text, std::string& bytes);

/// The other direction: one letter per byte, in UTF-8.
std::string letters_of_bytes(std::string_view bytes);

}  // namespace troupe::models
