// Streaming UTF-8 repair; the decoder's `truncated` says what may still become a code point.
#include "models/tokenizer/detokenizer.hpp"

#include "models/tokenizer/code_point.hpp"

namespace troupe::models {
namespace {
constexpr std::string_view replacement = "\xEF\xBF\xBD";  // U+FFFD
}

std::string detokenizer::push(int32_t id) {
  if (!show_control_ && tokens_->is_control(id)) return {};
  pending_ += tokens_->token_bytes(id);

  std::string text;
  std::string_view rest = pending_;
  while (!rest.empty()) {
    const code_point c = read_code_point(rest);
    if (c.truncated) break;
    text += c.valid ? rest.substr(0, c.length) : replacement;
    rest.remove_prefix(c.length);
  }
  pending_.erase(0, pending_.size() - rest.size());
  return text;
}

std::string detokenizer::finish() {
  const bool cut_short = !pending_.empty();
  pending_.clear();
  return cut_short ? std::string(replacement) : std::string();
}

}  // namespace troupe::models
