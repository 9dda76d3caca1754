// A vocabulary is data from anyone's file: a broken one can only fail to load, by name of the fault.
#include "support/catch.hpp"

#include <functional>

#include "fixtures.hpp"

using namespace troupe::models;
using troupe::errc;

namespace {

std::string refusal(const std::function<void(vocabulary_data&)>& break_it) {
  vocabulary_data v = testing::small_vocabulary();
  break_it(v);
  const auto made = tokenizer::create(std::move(v));
  if (made) return "accepted";
  CHECK(made.why().code == errc::corrupt_file);
  return made.why().text;
}

bool mentions(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("a vocabulary with a fault is refused with the fault's place") {
  using data = vocabulary_data;
  CHECK(mentions(refusal([](data& v) {
                   v.tokens.clear();
                   v.kinds.clear();
                 }),
                 "no tokens"));
  CHECK(mentions(refusal([](data& v) { v.merges.clear(); }), "no merges"));
  CHECK(mentions(refusal([](data& v) { v.tokens[7] = ""; }), "token 7 is empty"));
  CHECK(mentions(refusal([](data& v) { v.tokens[9] = v.tokens[3]; }), "tokens 3 and 9"));
  CHECK(mentions(refusal([](data& v) { v.kinds.pop_back(); }), "263 token kinds"));
  CHECK(mentions(refusal([](data& v) { v.merges.push_back("h e"); }), "merge 5 (\"h e\") occurs twice"));
  CHECK(mentions(refusal([](data& v) { v.merges[1] = "l  l"; }), "merge 1"));
  for (const char* merge : {"", " ", "he", "h ", " e", "q z", "zz z", "h e l"})
    CHECK(mentions(refusal([&](data& v) { v.merges[2] = merge; }), "merge 2"));
  CHECK(mentions(refusal([](data& v) { v.eos = 264; }), "eos id 264"));
  CHECK(mentions(refusal([](data& v) { v.bos = -1; }), "bos id -1"));
  CHECK(mentions(refusal([](data& v) { v.eot = INT32_MAX; }), "eot id"));
  CHECK(mentions(refusal([](data& v) { v.unk = 1 << 30; }), "unknown-token id"));
  CHECK(mentions(refusal([](data& v) { v.more_eog = {1, -5}; }), "end-of-generation id -5"));
  CHECK(mentions(refusal([](data& v) { v.kinds[65] = token_kind::byte; }), "byte token 65"));
  CHECK(mentions(refusal([](data& v) { v.tokens[261] = std::string(300, '<'); }), "special token 261"));
  CHECK(mentions(refusal([](data& v) { v.tokens[0] = std::string(1 << 20, 'a'); }), "token 0 has 1048576 bytes"));
  CHECK(mentions(refusal([](data& v) { v.tokens.resize(10'000'000); }), "10000000 tokens"));
  CHECK(mentions(refusal([](data& v) { v.merges.resize(10'000'000); }), "10000000 merges"));
}

TEST_CASE("a byte token stands for its byte") {
  vocabulary_data v = testing::small_vocabulary();
  v.tokens[0xE9] = "<0xE9>";
  v.kinds[0xE9] = token_kind::byte;
  const auto tokens = tokenizer::create(std::move(v)).value_or_throw();
  CHECK(tokens.token_bytes(0xE9) == "\xE9");
  CHECK(*tokens.encode("\xE9", false) == std::vector<int32_t>{0xE9});
}

TEST_CASE("ids answer for themselves, and foreign ids harm nothing") {
  const auto tokens = tokenizer::create(testing::small_vocabulary()).value_or_throw();
  CHECK(tokens.size() == 264);
  CHECK(tokens.find("Ġw") == 260);
  CHECK(tokens.token_bytes(260) == " w");
  CHECK(!tokens.find("nothing"));
  CHECK((tokens.is_control(261) && tokens.is_control(262) && !tokens.is_control(260)));
  CHECK((tokens.is_end(262) && !tokens.is_end(261)));
  for (const int32_t id : {-1, 264, INT32_MIN, INT32_MAX}) {
    CHECK(tokens.token_bytes(id).empty());
    CHECK(!tokens.is_control(id));
    CHECK(!tokens.is_end(id));
  }
}

TEST_CASE("a token named like a control token is one, whatever its kind says") {
  vocabulary_data v = testing::small_vocabulary();
  v.kinds.clear();
  v.eos.reset();
  const auto tokens = tokenizer::create(std::move(v)).value_or_throw();
  CHECK(tokens.is_control(261));
  CHECK((tokens.is_control(262) && tokens.is_end(262)));
}

TEST_CASE("a byte that the vocabulary cannot express is left out") {
  vocabulary_data v = testing::small_vocabulary();
  v.tokens['x'] = "[no x]";
  const auto tokens = tokenizer::create(std::move(v)).value_or_throw();
  CHECK(testing::decode(tokens, *tokens.encode("a x b", false)) == "a  b");
  CHECK(tokens.encode(std::string(100000, 'x'), false, 1)->empty());
}
