// Cuts text into the words inside which BPE merges, for each family of pre-tokenizer by a hand-written scan.
// Knows no vocabulary. Linear on any input: each character is looked at a bounded number of times; nothing recurses.
#pragma once

#include <optional>
#include <string_view>

namespace troupe::models {

/// How a family cuts. The patterns in regular-expression form stand in pre_tokenizer.cpp.
struct split_rules {
  std::string_view name;
  bool llama3_style = false;  ///< llama 3's pattern (also qwen2's); else GPT-2's
  int digits_together = 0;    ///< longest run of numbers in one word; 0: no bound
  bool digits_first = false;  ///< numbers are cut out before the pattern sees the text
  bool whole_words = false;   ///< a word that is a token is that token, merges or not
};

/// By the name that model files use, or nothing.
std::optional<split_rules> find_split_rules(std::string_view name);

/// "gpt-2, smollm, ...": for error messages.
std::string_view known_pre_tokenizers();

/// The length in bytes of the first word of `text` (at least 1); `text` is not empty and ends where the text to be
/// cut ends. Concatenated, the words are the text.
size_t first_word(const split_rules& rules, std::string_view text) noexcept;

}  // namespace troupe::models
