// Encoding and decoding again; the limit on tokens.
#include "support/catch.hpp"

#include <random>

#include "fixtures.hpp"

using namespace troupe::models;
using namespace troupe::models::testing;

TEST_CASE("decoding what was encoded gives the text, in every family") {
  std::mt19937 random(1);
  for (const char* family : {"gpt-2", "smollm", "llama-bpe", "qwen2"}) {
    const auto tokens = default_tokenizer(family);
    NEED_DEFAULT_MODEL(tokens);
    for (int round = 0; round < 300; ++round) {
      const std::string text = random_text(random, 1 + random() % 40);
      CHECK(decode(*tokens, *tokens->encode(text, false)) == text);
      CHECK(decode(*tokens, *tokens->encode(text, true)) == text);
    }
  }
}

TEST_CASE("bytes that are not UTF-8 survive where the vocabulary has them") {
  const auto tokens = tokenizer::create(small_vocabulary()).value_or_throw();
  std::mt19937 random(2);
  for (int round = 0; round < 200; ++round) {
    std::string bytes(random() % 60, '\0');
    for (char& b : bytes) b = static_cast<char>(random());
    CHECK(decode(tokens, *tokens.encode(bytes, true)) == bytes);
  }
}

TEST_CASE("encoding stops at the limit and says how far it came") {
  const auto tokens = tokenizer::create(small_vocabulary()).value_or_throw();
  CHECK(tokens.encode("hello hello", false, 3)->size() == 3);
  for (const auto& [text, special] : {std::pair<std::string, bool>{"hello hello", false},
                                      {std::string(100000, 'x'), false},
                                      {"<|im_end|><|im_end|><|im_end|>", true}}) {
    const auto refused = tokens.encode(text, special, 2);
    REQUIRE(!refused);
    CHECK(refused.why().code == troupe::errc::context_length_exceeded);
    CHECK(refused.why().text.find("the 2 tokens allowed: at least 3") != std::string::npos);
  }
  CHECK(tokens.encode("", false, 0)->empty());
  CHECK(!tokens.encode("a", false, 0));
}
