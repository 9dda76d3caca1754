// Token ids back to text, one at a time: whole, valid UTF-8 after every token.
// Knows nothing of stop strings or messages. One per generation and thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "models/tokenizer/tokenizer.hpp"

namespace troupe::models {

/// What it returns, put end to end, is the UTF-8 reading of all tokens' bytes, with U+FFFD for each ill-formed part
/// (the longest prefix of a sequence that could have become one, else a single byte), however the bytes are cut.
class detokenizer {
public:
  /// Control tokens are left out unless `show_control`; so are ids outside the vocabulary.
  explicit detokenizer(std::shared_ptr<const tokenizer> tokens, bool show_control = false)
      : tokens_(std::move(tokens)), show_control_(show_control) {}

  /// The text that is certain once `id` has come. Holds back at most 3 bytes.
  std::string push(int32_t id);

  /// The end of the text: what was held back will not be completed any more. Ready for a new text after it.
  std::string finish();

  /// Bytes held back now: 0 to 3.
  size_t held_back() const noexcept { return pending_.size(); }

private:
  std::shared_ptr<const tokenizer> tokens_;
  bool show_control_;
  std::string pending_;  // the beginning of one code point
};

}  // namespace troupe::models
