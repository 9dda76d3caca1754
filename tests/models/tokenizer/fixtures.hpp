// What the tokenizer's tests share: vocabularies, reference lines and generated text. Knows no test.
#pragma once

#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "models/tokenizer/tokenizer.hpp"

namespace troupe::models::testing {

/// The default model's own vocabulary, or nothing where the model has not been fetched.
std::optional<vocabulary_data> default_vocabulary();

/// A tokenizer over it, with another family's way of splitting if `pre_tokenizer` is given; nullptr without the model.
std::shared_ptr<const tokenizer> default_tokenizer(std::string_view pre_tokenizer = "smollm");

/// All 256 bytes, a few merges ("he", "ll", "hell", "hello", " w"), control tokens <|im_start|> and <|im_end|>, and the
/// user-defined <think>.
vocabulary_data small_vocabulary();

struct token_line {
  std::string text;
  std::vector<int32_t> ids;
  std::vector<int32_t> ids_with_specials;  // as ids where the line has none
};
std::vector<token_line> read_token_lines();

struct chat_line {
  std::string prompt;
  std::vector<int32_t> ids;
};
std::vector<chat_line> read_chat_lines();

/// Valid UTF-8 without the characters that the default vocabulary has no bytes for: words, digits, blanks,
/// contractions, symbols, other scripts, marks, emoji.
std::string random_text(std::mt19937& random, size_t pieces);

std::string decode(const tokenizer& tokens, const std::vector<int32_t>& ids);

}  // namespace troupe::models::testing

/// For tests on the real vocabulary.
#define NEED_DEFAULT_MODEL(pointer)                                                             \
  if (!(pointer)) {                                                                             \
    WARN("skipped: the default model is not in the cache (troupe pull smollm2-135m-instruct)"); \
    return;                                                                                     \
  }
