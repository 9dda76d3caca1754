// Holding back and releasing tokens.
#include "actors/stream/text_assembler.hpp"

namespace troupe::actors {

bool text_assembler::push(stream_token token, std::vector<stream_token>& out) {
  token.text = text_.push(token.ids.front());
  const std::string piece = token.text;
  held_bytes_ += piece.size();
  held_.push_back(std::move(token));
  if (scan(piece, out)) return true;
  release_safe(out);
  return false;
}

bool text_assembler::finish(std::vector<stream_token>& out) {
  const std::string rest = text_.finish();
  if (!rest.empty()) {  // the tokens of its bytes may be gone already
    held_.push_back({{}, rest, {}});
    held_bytes_ += rest.size();
    if (scan(rest, out)) return true;
  }
  release_until(held_bytes_, out);
  for (; !held_.empty(); held_.pop_front()) out.push_back(std::move(held_.front()));
  return false;
}

bool text_assembler::scan(std::string_view piece, std::vector<stream_token>& out) {
  const auto found = stops_.push(piece);
  if (!found) return false;
  release_until(held_bytes_ - piece.size() + found->end - found->length, out);
  held_.clear();
  held_bytes_ = 0;
  return true;
}

void text_assembler::release_safe(std::vector<stream_token>& out) {
  const std::size_t open = stops_.open_bytes();
  while (!held_.empty() && held_bytes_ - held_.front().text.size() >= open) {
    held_bytes_ -= held_.front().text.size();
    out.push_back(std::move(held_.front()));
    held_.pop_front();
  }
}

// The first `bytes` of the held text, the token at the border cut in two and its rest kept.
void text_assembler::release_until(std::size_t bytes, std::vector<stream_token>& out) {
  while (bytes > 0 && !held_.empty()) {
    stream_token& front = held_.front();
    if (front.text.size() > bytes) {
      front.text.resize(bytes);  // only at a stop string: the caller drops the rest
      held_bytes_ -= bytes;
      out.push_back(std::move(front));
      held_.pop_front();
      return;
    }
    bytes -= front.text.size();
    held_bytes_ -= front.text.size();
    out.push_back(std::move(front));
    held_.pop_front();
  }
}

}  // namespace troupe::actors
