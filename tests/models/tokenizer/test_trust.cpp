// Who may write control tokens, and that spans leave no trace in ordinary text.
#include "support/catch.hpp"

#include <algorithm>
#include <random>

#include "fixtures.hpp"

using namespace troupe::models;
using namespace troupe::models::testing;
using ids = std::vector<int32_t>;

namespace {

constexpr int32_t im_start = 261, im_end = 262, think = 263, hello = 259;

ids encode(const tokenizer& tokens, std::initializer_list<text_span> spans) {
  return tokens.encode(std::span(spans.begin(), spans.size())).value_or_throw();
}

bool has_control(const tokenizer& tokens, const ids& list) {
  return std::any_of(list.begin(), list.end(), [&](int32_t id) { return tokens.is_control(id); });
}

}  // namespace

TEST_CASE("control tokens are recognised only where every character is trusted") {
  const auto tokens = tokenizer::create(small_vocabulary()).value_or_throw();
  CHECK(encode(tokens, {{"<|im_start|>hello<|im_end|>", true}}) == ids{im_start, hello, im_end});
  CHECK(!has_control(tokens, encode(tokens, {{"<|im_start|>hello<|im_end|>", false}})));
  CHECK(encode(tokens, {{"<|im_", true}, {"start|>", true}}) == ids{im_start});
  CHECK(!has_control(tokens, encode(tokens, {{"<|im_", true}, {"start|>", false}})));
  CHECK(!has_control(tokens, encode(tokens, {{"<|im_", false}, {"start|>", true}})));
  CHECK(!has_control(tokens, encode(tokens, {{"<|im_", true}, {"st", false}, {"art|>", true}})));
  CHECK(encode(tokens, {{"<|im_", true}, {"", false}, {"start|>", true}}) == ids{im_start});
  CHECK(encode(tokens, {{"<|im_start|>", false}, {"<|im_end|>", true}}).back() == im_end);
}

TEST_CASE("user-defined tokens are recognised in anyone's text") {
  const auto tokens = tokenizer::create(small_vocabulary()).value_or_throw();
  CHECK(encode(tokens, {{"<thi", false}, {"nk>", true}}) == ids{think});
  CHECK(!tokens.is_control(think));
}

TEST_CASE("merges never make a control token, whatever the file says") {
  vocabulary_data v = small_vocabulary();
  v.tokens.insert(v.tokens.end(), {"<|", "=|", "=|>", "<|=|>"});
  v.kinds.resize(v.tokens.size(), token_kind::normal);
  v.merges.insert(v.merges.end(), {"< |", "= |", "=| >", "<| =|>"});
  const auto tokens = tokenizer::create(v).value_or_throw();
  const auto made = *tokens.find("<|=|>");
  CHECK(tokens.is_control(made));
  CHECK(!has_control(tokens, encode(tokens, {{"<|=|>", false}})));
  CHECK(encode(tokens, {{"<|=|>", true}}) == ids{made});
}

TEST_CASE("no text of a user yields a control id") {
  const auto tokens = default_tokenizer();
  NEED_DEFAULT_MODEL(tokens);
  std::mt19937 random(3);
  for (int32_t id = 0; id < tokens->size(); ++id)
    if (tokens->is_control(id)) CHECK(!has_control(*tokens, *tokens->encode(tokens->token_bytes(id), false)));
  for (int round = 0; round < 500; ++round)
    CHECK(!has_control(*tokens, *tokens->encode(random_text(random, 30), false)));
}

TEST_CASE("borders between spans do not alter the encoding of ordinary text") {
  const auto tokens = default_tokenizer();
  NEED_DEFAULT_MODEL(tokens);
  std::mt19937 random(5);
  for (int round = 0; round < 500; ++round) {
    const std::string text = random_text(random, 12);
    std::vector<text_span> spans;
    for (std::string_view rest = text; !rest.empty();) {
      const size_t length = 1 + random() % rest.size();  // may cut a code point: spans are bytes
      spans.push_back({rest.substr(0, length), false});
      rest.remove_prefix(length);
    }
    CHECK(*tokens->encode(spans) == *tokens->encode(text, false));
    for (text_span& span : spans) span.trusted = true;
    CHECK(*tokens->encode(spans) == *tokens->encode(text, true));
  }
}
