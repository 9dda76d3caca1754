// The tables inside a tokenizer, and the one function that builds them from a checked vocabulary.
// Private to models/tokenizer.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <troupe/result.hpp>

#include "models/tokenizer/literal_tokens.hpp"
#include "models/tokenizer/merge_table.hpp"
#include "models/tokenizer/pre_tokenizer.hpp"
#include "models/tokenizer/text_index.hpp"
#include "models/tokenizer/vocabulary.hpp"

namespace troupe::models {

struct tokenizer_parts {
  vocabulary_data vocabulary;  // kinds filled for every id; merges emptied once they are in the table
  split_rules rules;
  merge_table merges;
  literal_tokens literals;
  std::array<int32_t, 256> id_of_byte{};                      // -1: the vocabulary cannot express it
  std::string bytes;                                          // of all tokens, end to end
  std::vector<size_t> starts;                                 // token id lies in bytes[starts[id], starts[id + 1])
  std::vector<bool> ends;                                     // by id: ends a generation
  text_index by_text;                                         // of vocabulary.tokens
  text_index by_bytes;                                        // normal tokens; only where the rules want it
  size_t longest_token = 1;                                   // bytes

  std::string_view bytes_of(int32_t id) const {
    const auto i = static_cast<size_t>(id);
    return std::string_view(bytes).substr(starts[i], starts[i + 1] - starts[i]);
  }
  /// `text_index::none` where there is no such token.
  int32_t id_of_text(std::string_view text) const {
    return by_text.find(text, [this](int32_t id) { return std::string_view(vocabulary.tokens[static_cast<size_t>(id)]); });
  }
  int32_t id_of_word(std::string_view word) const {
    return by_bytes.find(word, [this](int32_t id) { return bytes_of(id); });
  }
  token_kind kind_of(int32_t id) const { return vocabulary.kinds[static_cast<size_t>(id)]; }
  bool is_control(int32_t id) const {
    return kind_of(id) == token_kind::control || kind_of(id) == token_kind::unknown;
  }
};

result<std::shared_ptr<const tokenizer_parts>> build_tokenizer_parts(vocabulary_data vocabulary);

}  // namespace troupe::models
