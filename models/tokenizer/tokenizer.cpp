// Encoding: literal tokens cut the text into fragments, the pre-tokenizer cuts these into words, merging does the rest.
#include "models/tokenizer/tokenizer.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "models/tokenizer/tokenizer_parts.hpp"
#include "models/tokenizer/tokenizer_tables.hpp"
#include "models/tokenizer/word_merger.hpp"

namespace troupe::models {
namespace {

struct byte_range {
  size_t begin = 0;
  size_t end = 0;
};

// The spans as one string, copied only if there are several, and where it is trusted.
struct joined_text {
  explicit joined_text(std::span<const text_span> spans) {
    size_t size = 0;
    for (const text_span& span : spans) {
      const size_t begin = size;
      size += span.text.size();
      if (!span.trusted || span.text.empty()) continue;
      if (!trusted.empty() && trusted.back().end == begin) trusted.back().end = size;
      else trusted.push_back({begin, size});
    }
    if (spans.size() == 1) {
      text = spans[0].text;
      return;
    }
    copy.reserve(size);
    for (const text_span& span : spans) copy += span.text;
    text = copy;
  }
  joined_text(const joined_text&) = delete;
  joined_text& operator=(const joined_text&) = delete;

  std::string copy;
  std::string_view text;
  std::vector<byte_range> trusted;  // ascending, apart from each other
};

// One call of encode.
class encoding {
public:
  encoding(const tokenizer_parts& parts, const joined_text& input, size_t max_tokens)
      : parts_(parts), text_(input.text), trusted_(input.trusted), max_tokens_(max_tokens), merger_(parts.merges) {
    ids_.reserve(std::min(text_.size() / 4 + 1, max_tokens));
  }

  result<std::vector<int32_t>> run() {
    size_t start = 0, at = 0;
    while ((at = parts_.literals.next_candidate(text_, at)) < text_.size()) {
      const auto found = parts_.literals.at(text_, at, trusted_end(at));
      if (found.length == 0) {
        ++at;
        continue;
      }
      if (!add_words(start, at)) return too_long();
      ids_.push_back(found.id);
      start = at += found.length;
    }
    if (!add_words(start, text_.size()) || ids_.size() > max_tokens_) return too_long();
    return std::move(ids_);
  }

private:
  // Where the trusted text around `at` ends; 0 if the place is not trusted. Asked in ascending order.
  size_t trusted_end(size_t at) {
    while (range_ < trusted_.size() && trusted_[range_].end <= at) ++range_;
    return range_ < trusted_.size() && trusted_[range_].begin <= at ? trusted_[range_].end : 0;
  }

  // The words of text_[begin, end). False: more than max_tokens, surely.
  bool add_words(size_t begin, size_t end) {
    std::string_view rest = text_.substr(begin, end - begin);
    while (!rest.empty()) {
      if (ids_.size() > max_tokens_) return false;
      const size_t length = first_word(parts_.rules, rest);
      if (!add_word(rest.substr(0, length))) return false;
      rest.remove_prefix(length);
      done_ = end - rest.size();
    }
    return ids_.size() <= max_tokens_;
  }

  bool add_word(std::string_view word) {
    if (parts_.rules.whole_words) {
      if (const int32_t id = parts_.id_of_word(word); id != text_index::none) {
        ids_.push_back(id);
        return true;
      }
    }
    symbols_.clear();
    for (const char c : word)
      if (const int32_t id = parts_.id_of_byte[static_cast<uint8_t>(c)]; id >= 0) symbols_.push_back(id);
    // No token holds more bytes than the longest: a huge word can be refused before it is merged.
    if (symbols_.size() / parts_.longest_token > max_tokens_ - ids_.size()) return false;
    merger_.merge(symbols_, ids_);
    return true;
  }

  error too_long() const {
    return {errc::context_length_exceeded,
            "the text has more than the " + std::to_string(max_tokens_) + " tokens allowed: at least " +
                std::to_string(std::max(ids_.size(), max_tokens_ + 1)) + " (" + std::to_string(done_) + " of its " +
                std::to_string(text_.size()) + " bytes were encoded before stopping)",
            {}};
  }

  const tokenizer_parts& parts_;
  std::string_view text_;
  std::span<const byte_range> trusted_;
  size_t max_tokens_;
  word_merger merger_;
  size_t range_ = 0;  // of trusted_
  size_t done_ = 0;   // bytes encoded, for the message
  std::vector<int32_t> symbols_;
  std::vector<int32_t> ids_;
};

bool inside(const tokenizer_parts& parts, int32_t id) {
  return id >= 0 && static_cast<size_t>(id) < parts.kinds.size();
}

}  // namespace

result<tokenizer> tokenizer::create(vocabulary_data vocabulary) {
  auto parts = build_tokenizer_parts(std::move(vocabulary));
  if (!parts) return std::move(parts).why();
  return tokenizer(std::move(*parts));
}

result<tokenizer> tokenizer::of_tables(std::span<const std::byte> tables, std::shared_ptr<const void> held) {
  auto parts = parts_of(tables, std::move(held));
  if (!parts) return std::move(parts).why();
  return tokenizer(*std::move(parts));
}

std::vector<std::byte> tokenizer::tables() const { return tables_of(*parts_); }

result<std::vector<int32_t>> tokenizer::encode(std::span<const text_span> spans, size_t max_tokens) const {
  const joined_text input(spans);
  if (input.text.size() >= UINT32_MAX)  // the merger counts in 32 bits
    return error{errc::invalid_argument, "the text has " + std::to_string(input.text.size()) + " bytes", {}};
  return encoding(*parts_, input, max_tokens).run();
}

result<std::vector<int32_t>> tokenizer::encode(std::string_view text, bool parse_special, size_t max_tokens) const {
  const text_span span{text, parse_special};
  return encode(std::span(&span, 1), max_tokens);
}

std::string_view tokenizer::token_bytes(int32_t id) const noexcept {
  return inside(*parts_, id) ? parts_->bytes_of(id) : std::string_view();
}

bool tokenizer::is_control(int32_t id) const noexcept { return inside(*parts_, id) && parts_->is_control(id); }

bool tokenizer::is_end(int32_t id) const noexcept {
  return inside(*parts_, id) && parts_->ends[static_cast<size_t>(id)] != 0;
}

int32_t tokenizer::size() const noexcept { return static_cast<int32_t>(parts_->kinds.size()); }
std::optional<int32_t> tokenizer::bos() const noexcept { return parts_->bos; }
std::optional<int32_t> tokenizer::eos() const noexcept { return parts_->eos; }
bool tokenizer::add_bos() const noexcept { return parts_->add_bos; }

std::optional<int32_t> tokenizer::find(std::string_view token_text) const {
  const int32_t id = parts_->id_of_text(token_text);
  if (id == text_index::none) return std::nullopt;
  return id;
}

}  // namespace troupe::models
