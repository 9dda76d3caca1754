// Streams of tokens cut anywhere give whole code points, and together the same text as all at once.
#include "support/catch.hpp"

#include <random>

#include "fixtures.hpp"
#include "models/tokenizer/code_point.hpp"
#include "models/tokenizer/detokenizer.hpp"

using namespace troupe::models;
using namespace troupe::models::testing;

namespace {

// In the small vocabulary, id b is byte b.
std::shared_ptr<const tokenizer> byte_tokens() {
  return std::make_shared<const tokenizer>(tokenizer::create(small_vocabulary()).value_or_throw());
}

bool is_valid(std::string_view text) {
  while (!text.empty()) {
    const code_point c = read_code_point(text);
    if (!c.valid) return false;
    text.remove_prefix(c.length);
  }
  return true;
}

std::string stream(detokenizer& out, std::string_view bytes) {
  std::string text;
  for (const char b : bytes) {
    const std::string more = out.push(static_cast<uint8_t>(b));
    CHECK(is_valid(more));
    CHECK(out.held_back() <= 3);
    text += more;
  }
  return text + out.finish();
}

const std::string bad = "\xEF\xBF\xBD";

}  // namespace

TEST_CASE("ill-formed bytes become U+FFFD as the Unicode standard advises") {
  detokenizer out(byte_tokens());
  // Chapter 3, tables 3-8 to 3-11.
  CHECK(stream(out, "\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41") == bad + bad + bad + bad + bad + bad + bad + bad + "A");
  CHECK(stream(out, "\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41") == bad + bad + bad + bad + bad + bad + bad + bad + "A");
  CHECK(stream(out, "\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42") == bad + bad + bad + bad + bad + "A" + bad + bad + "B");
  CHECK(stream(out, "\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41") == bad + bad + bad + bad + "A");
  CHECK(stream(out, "\xF0\x9F\x98") == bad);
  CHECK(stream(out, "a\xF0\x9F\x98\x80z") == "a😀z");
}

TEST_CASE("a code point comes out with its last byte and not before") {
  detokenizer out(byte_tokens());
  CHECK(out.push(0xE2).empty());
  CHECK(out.push(0x82).empty());
  CHECK(out.held_back() == 2);
  CHECK(out.push(0xAC) == "€");
  CHECK(out.finish().empty());
}

TEST_CASE("control tokens are silent unless asked for") {
  detokenizer quiet(byte_tokens()), loud(byte_tokens(), true);
  CHECK(quiet.push(262).empty());
  CHECK(loud.push(262) == "<|im_end|>");
  CHECK(quiet.push(0xC3).empty());
  CHECK(quiet.push(262).empty());
  CHECK(quiet.push(0xA9) == "é");
  CHECK(quiet.push(99999).empty());
}

TEST_CASE("random bytes always stream as valid text") {
  detokenizer out(byte_tokens());
  std::mt19937 random(9);
  for (int round = 0; round < 300; ++round) {
    std::string bytes = random_text(random, 3);
    for (int i = 0; i < 4; ++i)
      bytes.insert(bytes.begin() + random() % (bytes.size() + 1), static_cast<char>(random()));
    std::string whole;  // the same rule, applied to all bytes at once
    for (std::string_view rest = bytes; !rest.empty();) {
      const code_point c = read_code_point(rest);
      whole += c.valid ? std::string(rest.substr(0, c.length)) : bad;
      rest.remove_prefix(c.length);
    }
    CHECK(stream(out, bytes) == whole);
  }
}

TEST_CASE("the stream of an encoded text is the text") {
  const auto tokens = default_tokenizer();
  NEED_DEFAULT_MODEL(tokens);
  std::mt19937 random(10);
  detokenizer out(tokens, true);
  for (int round = 0; round < 200; ++round) {
    const std::string text = random_text(random, 20);
    std::string streamed;
    const auto ids = tokens->encode(text, true).value_or_throw();
    for (const int32_t id : ids) streamed += out.push(id);
    CHECK(streamed + out.finish() == text);
  }
}
