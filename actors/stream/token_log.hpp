// What a generation has said: entries in order, each a token (or several joined by an operator) with its text.
// Append only. Offsets count entries; text and ids lie end to end, so an entry costs 8 bytes beside them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <troupe/operator.hpp>

namespace troupe::actors {

class token_log {
public:
  void append(stream_token&& token);

  std::size_t size() const noexcept { return entries_.size(); }
  std::size_t text_bytes() const noexcept { return text_.size(); }
  /// Bytes of text behind an offset; `offset` up to size().
  std::size_t text_bytes_from(std::size_t offset) const noexcept { return text_.size() - text_begin(offset); }

  /// Where a piece that begins at `offset` ends, whose text and log-probabilities make about `bytes` at most: behind
  /// one entry at least, where there is one. Costs its entries.
  std::size_t piece_end(std::size_t offset, std::size_t bytes) const;

  /// Of all entries from an offset on, up to another's.
  std::string_view text_from(std::size_t offset) const noexcept { return text_between(offset, size()); }
  std::string_view text_between(std::size_t offset, std::size_t end) const noexcept {
    return std::string_view(text_).substr(text_begin(offset), text_begin(end) - text_begin(offset));
  }
  std::vector<token_logprob> logprobs_between(std::size_t offset, std::size_t end) const;
  const std::vector<std::int32_t>& ids() const noexcept { return ids_; }

private:
  struct entry {
    std::uint32_t text_end = 0;
    std::uint32_t logprobs_end = 0;
  };
  std::size_t text_begin(std::size_t offset) const noexcept { return offset == 0 ? 0 : entries_[offset - 1].text_end; }
  std::size_t logprobs_begin(std::size_t offset) const noexcept {
    return offset == 0 ? 0 : entries_[offset - 1].logprobs_end;
  }

  std::string text_;
  std::vector<std::int32_t> ids_;
  std::vector<token_logprob> logprobs_;
  std::vector<entry> entries_;
};

}  // namespace troupe::actors
