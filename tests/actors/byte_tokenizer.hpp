// For stream tests: a tokenizer whose first 256 tokens are the bytes, then some longer tokens and one control token.
// And a sink that writes down what it hears.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <troupe/event.hpp>

#include "models/tokenizer/byte_letters.hpp"
#include "models/tokenizer/tokenizer.hpp"

namespace troupe::tests {

inline const std::vector<std::string>& long_tokens() {
  static const std::vector<std::string> all = {"ab",
                                               "abc",
                                               "\xC3\xA9"
                                               "a",
                                               "\xE2\x82",
                                               "STOP",
                                               "OP",
                                               "ba",
                                               "\xAC"
                                               "b",
                                               " the",
                                               "aab"};
  return all;
}

inline std::shared_ptr<const models::tokenizer> byte_tokenizer() {
  models::vocabulary_data v;
  for (int b = 0; b < 256; ++b) v.tokens.push_back(models::letters_of_bytes(std::string(1, static_cast<char>(b))));
  for (const std::string& token : long_tokens()) v.tokens.push_back(models::letters_of_bytes(token));
  v.kinds.assign(v.tokens.size(), models::token_kind::normal);
  v.tokens.push_back("<|end|>");
  v.kinds.push_back(models::token_kind::control);
  v.merges = {"a b"};
  v.pre_tokenizer = "gpt-2";
  v.eos = static_cast<std::int32_t>(v.tokens.size()) - 1;
  return std::make_shared<const models::tokenizer>(models::tokenizer::create(std::move(v)).value_or_throw());
}

class recording_sink : public event_sink {
public:
  void on_event(const event& e) override { events.push_back(e); }

  std::string text() const {
    std::string all;
    for (const event& e : events) all += e.text;
    return all;
  }
  int count(event::kind what) const {
    int n = 0;
    for (const event& e : events) n += e.what == what ? 1 : 0;
    return n;
  }
  int ends() const { return count(event::kind::done) + count(event::kind::failed); }

  std::vector<event> events;
};

}  // namespace troupe::tests
