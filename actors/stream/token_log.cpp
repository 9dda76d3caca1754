// Appending and slicing.
#include "actors/stream/token_log.hpp"

#include <iterator>
#include <utility>

namespace troupe::actors {

void token_log::append(stream_token&& token) {
  text_ += token.text;
  ids_.insert(ids_.end(), token.ids.begin(), token.ids.end());
  logprobs_.insert(logprobs_.end(), std::make_move_iterator(token.logprobs.begin()), std::make_move_iterator(token.logprobs.end()));
  entries_.push_back({static_cast<std::uint32_t>(text_.size()), static_cast<std::uint32_t>(logprobs_.size())});
}

std::vector<token_logprob> token_log::logprobs_from(std::size_t offset) const {
  if (logprobs_.empty()) return {};
  const std::size_t begin = offset == 0 ? 0 : entries_[offset - 1].logprobs_end;
  return {logprobs_.begin() + static_cast<std::ptrdiff_t>(begin), logprobs_.end()};
}

}  // namespace troupe::actors
