// The tables inside a tokenizer, and the one function that builds them from a checked vocabulary.
// Private to models/tokenizer.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include <troupe/result.hpp>

#include "models/tokenizer/flat_table.hpp"
#include "models/tokenizer/literal_tokens.hpp"
#include "models/tokenizer/merge_table.hpp"
#include "models/tokenizer/pre_tokenizer.hpp"
#include "models/tokenizer/text_index.hpp"
#include "models/tokenizer/vocabulary.hpp"

namespace troupe::models {

struct tokenizer_parts {
  split_rules rules;
  std::optional<int32_t> bos;
  std::optional<int32_t> eos;
  bool add_bos = false;
  merge_table merges;
  literal_tokens literals;
  std::array<int32_t, 256> id_of_byte{};  // -1: the vocabulary cannot express it
  flat_texts texts;                       // by id, as the vocabulary writes them
  flat_texts bytes;                       // by id: what the token adds to a text
  flat_table<token_kind> kinds;           // by id
  flat_table<uint8_t> ends;               // by id: 1 where it ends a generation
  text_index by_text;                     // of texts
  text_index by_bytes;                    // normal tokens; only where the rules want it
  size_t longest_token = 1;               // bytes
  std::shared_ptr<const void> held;       // where tables lie that were not made here

  std::string_view text_of(int32_t id) const { return texts[static_cast<size_t>(id)]; }
  std::string_view bytes_of(int32_t id) const { return bytes[static_cast<size_t>(id)]; }
  /// `text_index::none` where there is no such token.
  int32_t id_of_text(std::string_view text) const {
    return by_text.find(text, [this](int32_t id) { return text_of(id); });
  }
  int32_t id_of_word(std::string_view word) const {
    return by_bytes.find(word, [this](int32_t id) { return bytes_of(id); });
  }
  token_kind kind_of(int32_t id) const { return kinds[static_cast<size_t>(id)]; }
  bool is_control(int32_t id) const { return kind_of(id) == token_kind::control || kind_of(id) == token_kind::unknown; }
};

result<std::shared_ptr<const tokenizer_parts>> build_tokenizer_parts(vocabulary_data vocabulary);

/// The last step, which follows from texts and kinds. Errors: corrupt_file.
result<void> collect_literals(tokenizer_parts& parts);

}  // namespace troupe::models
