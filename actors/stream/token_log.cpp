// Appending and slicing.
#include "actors/stream/token_log.hpp"

#include <iterator>
#include <utility>

namespace troupe::actors {
namespace {

/// Roughly, in an answer: the number, the token's text and its bytes once more.
std::size_t written_size(const token_logprob& one) {
  std::size_t bytes = 64 + one.bytes.size() * 5;
  for (const auto& [text, logprob] : one.top) bytes += 64 + text.size() * 5;
  return bytes;
}

}  // namespace

void token_log::append(stream_token&& token) {
  text_ += token.text;
  ids_.insert(ids_.end(), token.ids.begin(), token.ids.end());
  logprobs_.insert(logprobs_.end(), std::make_move_iterator(token.logprobs.begin()),
                   std::make_move_iterator(token.logprobs.end()));
  entries_.push_back({static_cast<std::uint32_t>(text_.size()), static_cast<std::uint32_t>(logprobs_.size())});
}

std::vector<token_logprob> token_log::logprobs_between(std::size_t offset, std::size_t end) const {
  if (logprobs_.empty()) return {};
  return {logprobs_.begin() + static_cast<std::ptrdiff_t>(logprobs_begin(offset)),
          logprobs_.begin() + static_cast<std::ptrdiff_t>(logprobs_begin(end))};
}

std::size_t token_log::piece_end(std::size_t offset, std::size_t bytes) const {
  std::size_t end = offset, taken = 0;
  for (; end < size(); ++end) {
    taken += text_begin(end + 1) - text_begin(end);
    for (std::size_t at = logprobs_begin(end); at < logprobs_begin(end + 1); ++at) taken += written_size(logprobs_[at]);
    if (taken > bytes && end > offset) break;
  }
  return end;
}

}  // namespace troupe::actors
