// What an operator may do with the front of its window.
#include <algorithm>

#include <troupe/operator.hpp>

namespace troupe {

std::string token_window::text() const {
  std::string all;
  for (const stream_token& token : waiting_) all += token.text;
  return all;
}

void token_window::pass(std::size_t count) {
  for (count = std::min(count, waiting_.size()); count > 0; --count) {
    out_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
}

void token_window::rewrite(std::size_t count, std::string text) {
  count = std::min(count, waiting_.size());
  if (count == 0) return;
  stream_token joined;
  for (std::size_t i = 0; i < count; ++i) {
    const stream_token& part = waiting_[i];
    joined.ids.insert(joined.ids.end(), part.ids.begin(), part.ids.end());
    joined.logprobs.insert(joined.logprobs.end(), part.logprobs.begin(), part.logprobs.end());
  }
  joined.text = std::move(text);
  drop(count);
  out_.push_back(std::move(joined));
}

void token_window::drop(std::size_t count) {
  waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(std::min(count, waiting_.size())));
}

}  // namespace troupe
