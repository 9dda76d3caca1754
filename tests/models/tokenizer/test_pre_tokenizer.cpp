// Where each family cuts: cases worked out by hand from the patterns, and what holds for any bytes.
#include "support/catch.hpp"

#include <random>

#include "fixtures.hpp"
#include "models/tokenizer/pre_tokenizer.hpp"

using namespace troupe::models;
using words = std::vector<std::string>;

namespace {

words split(std::string_view family, std::string_view text) {
  const auto rules = find_split_rules(family);
  REQUIRE(rules);
  words result;
  while (!text.empty()) {
    const size_t length = first_word(*rules, text);
    REQUIRE(length >= 1);
    REQUIRE(length <= text.size());
    result.emplace_back(text.substr(0, length));
    text.remove_prefix(length);
  }
  return result;
}

struct split_case {
  const char* text;
  words gpt2, smollm, llama, qwen2;
};

}  // namespace

TEST_CASE("each family cuts where its pattern does") {
  const std::vector<split_case> cases = {
      {"don't", {"don", "'t"}, {"don", "'t"}, {"don", "'t"}, {"don", "'t"}},
      {"WE'LL", {"WE", "'", "LL"}, {"WE", "'", "LL"}, {"WE", "'LL"}, {"WE", "'LL"}},
      {"'ſo", {"'", "ſo"}, {"'", "ſo"}, {"'ſ", "o"}, {"'ſ", "o"}},
      {"'hi", {"'", "hi"}, {"'", "hi"}, {"'hi"}, {"'hi"}},
      {"12345", {"12345"}, {"1", "2", "3", "4", "5"}, {"123", "45"}, {"1", "2", "3", "4", "5"}},
      {"a 12", {"a", " 12"}, {"a", " ", "1", "2"}, {"a", " ", "12"}, {"a", " ", "1", "2"}},
      {"a  1", {"a", " ", " 1"}, {"a", "  ", "1"}, {"a", " ", " ", "1"}, {"a", " ", " ", "1"}},
      {"a \t b", {"a", " \t", " b"}, {"a", " \t", " b"}, {"a", " \t", " b"}, {"a", " \t", " b"}},
      {"a\tb", {"a", "\t", "b"}, {"a", "\t", "b"}, {"a", "\tb"}, {"a", "\tb"}},
      {"x!\n\ny", {"x", "!", "\n", "\n", "y"}, {"x", "!", "\n", "\n", "y"}, {"x", "!\n\n", "y"}, {"x", "!\n\n", "y"}},
      {"x \n  y", {"x", " \n ", " y"}, {"x", " \n ", " y"}, {"x", " \n", " ", " y"}, {"x", " \n", " ", " y"}},
      {"(f(x)", {"(", "f", "(", "x", ")"}, {"(", "f", "(", "x", ")"}, {"(f", "(x", ")"}, {"(f", "(x", ")"}},
      {" \u00a0é", {" ", "\u00a0", "é"}, {" ", "\u00a0", "é"}, {" ", "\u00a0é"}, {" ", "\u00a0é"}},
      {"tail  ", {"tail", "  "}, {"tail", "  "}, {"tail", "  "}, {"tail", "  "}},
  };
  for (const split_case& c : cases) {
    INFO("text: " << c.text);
    CHECK(split("gpt-2", c.text) == c.gpt2);
    CHECK(split("smollm", c.text) == c.smollm);
    CHECK(split("llama-bpe", c.text) == c.llama);
    CHECK(split("qwen2", c.text) == c.qwen2);
  }
}

TEST_CASE("any bytes are cut into words that add up to them") {
  std::mt19937 random(7);
  std::uniform_int_distribution<int> byte(0, 255);
  for (const char* family : {"gpt-2", "smollm", "llama-bpe", "qwen2"}) {
    for (int round = 0; round < 300; ++round) {
      std::string text = testing::random_text(random, 4);
      for (int i = 0; i < 6; ++i)
        text.insert(text.begin() + random() % (text.size() + 1), static_cast<char>(byte(random)));
      std::string joined;
      for (const std::string& word : split(family, text)) joined += word;
      CHECK(joined == text);
    }
  }
}

TEST_CASE("an unknown family is refused by name, with the known ones listed") {
  vocabulary_data v = testing::small_vocabulary();
  v.pre_tokenizer = "klingon";
  const auto made = tokenizer::create(std::move(v));
  REQUIRE(!made);
  CHECK(made.why().code == troupe::errc::unsupported);
  CHECK(made.why().text.find("klingon") != std::string::npos);
  CHECK(made.why().text.find("llama-bpe") != std::string::npos);
}
