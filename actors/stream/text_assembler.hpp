// Token ids to text that is safe to send: whole code points, and nothing that could still become a stop string.
// Works in whole tokens, so that log-probabilities stay beside their text; a token waits for others only where its text
// may be a stop string's: one that ends inside a code point goes at once, without it. Knows no subscribers.
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include <troupe/operator.hpp>

#include "actors/stream/stop_matcher.hpp"
#include "models/tokenizer/detokenizer.hpp"

namespace troupe::actors {

class text_assembler {
public:
  text_assembler(std::shared_ptr<const models::tokenizer> tokens, const std::vector<std::string>& stops)
      : text_(std::move(tokens)), stops_(stops) {}

  /// Takes one sampled token (ids has one element; text is filled in here) and appends to `out` the tokens that have
  /// become safe. True: a stop string is complete. It and what follows are cut off; nothing more may be pushed.
  bool push(stream_token token, std::vector<stream_token>& out);

  /// No token follows: releases what was held, and in an entry without ids U+FFFD for a code point cut short. True as
  /// above.
  bool finish(std::vector<stream_token>& out);

  /// Bytes of text not yet released: less than the longest stop string and one token.
  std::size_t held_bytes() const noexcept { return held_bytes_; }

private:
  bool scan(std::string_view piece, std::vector<stream_token>& out);
  void release_safe(std::vector<stream_token>& out);
  void release_until(std::size_t bytes, std::vector<stream_token>& out);

  models::detokenizer text_;
  stop_matcher stops_;
  std::deque<stream_token> held_;
  std::size_t held_bytes_ = 0;
};

}  // namespace troupe::actors
