// Stop strings, text assembly and operators against naive oracles.
#include <random>

#include "actors/byte_tokenizer.hpp"
#include "actors/stream/generation.hpp"
#include "actors/stream/stop_matcher.hpp"
#include "actors/stream/text_assembler.hpp"
#include "models/tokenizer/detokenizer.hpp"
#include "support/catch.hpp"

using namespace troupe;
using namespace troupe::actors;
using troupe::tests::byte_tokenizer;

namespace {

using generator = std::mt19937;

int pick(generator& random, int below) { return static_cast<int>(random() % static_cast<unsigned>(below)); }

std::string random_text(generator& random, int most) {
  std::string text;
  for (int n = pick(random, most + 1); n > 0; --n) text += "aab"[pick(random, 3)];
  return text;
}

std::vector<std::string> random_stops(generator& random) {
  std::vector<std::string> stops;
  for (int n = pick(random, 5); n > 0; --n) stops.push_back(std::string("a").append(random_text(random, 5)));
  return stops;
}

// The first place where a stop string ends, and the longest of those that end there: by trying them all.
std::string cut_at_stop(const std::string& text, const std::vector<std::string>& stops) {
  for (std::size_t end = 1; end <= text.size(); ++end) {
    std::size_t longest = 0;
    for (const std::string& stop : stops)
      if (stop.size() <= end && text.compare(end - stop.size(), stop.size(), stop) == 0)
        longest = std::max(longest, stop.size());
    if (longest > 0) return text.substr(0, end - longest);
  }
  return text;
}

std::vector<std::int32_t> random_tokens(generator& random, std::int32_t vocabulary) {
  std::vector<std::int32_t> ids;
  for (int n = pick(random, 40); n > 0; --n) {
    const int kind = pick(random, 4);
    if (kind == 0) ids.push_back(pick(random, vocabulary));
    else if (kind == 1) ids.push_back("ab"[pick(random, 2)]);
    else ids.push_back(256 + pick(random, static_cast<int>(tests::long_tokens().size())));
  }
  return ids;
}

std::string whole_text(const std::vector<std::int32_t>& ids) {
  models::detokenizer text(byte_tokenizer());
  std::string all;
  for (std::int32_t id : ids) all += text.push(id);
  return all + text.finish();
}

bool whole_code_points(const std::string& text) {
  std::size_t i = 0;
  while (i < text.size()) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const std::size_t length = lead < 0x80 ? 1 : lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC2 ? 2 : 0;
    if (length == 0 || i + length > text.size()) return false;
    for (std::size_t k = 1; k < length; ++k)
      if ((static_cast<unsigned char>(text[i + k]) & 0xC0) != 0x80) return false;
    i += length;
  }
  return true;
}

}  // namespace

TEST_CASE("a stop string is found where a search through the whole text finds it, however the text is cut") {
  generator random(1);
  for (int round = 0; round < 5000; ++round) {
    const auto stops = random_stops(random);
    const std::string text = random_text(random, 30);
    stop_matcher matcher(stops);
    std::string kept = text;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t length = 1 + static_cast<std::size_t>(pick(random, 4));
      const std::string piece = text.substr(at, length);
      if (const auto found = matcher.push(piece)) {
        kept = text.substr(0, at + found->end - found->length);
        break;
      }
      at += piece.size();
    }
    REQUIRE(kept == cut_at_stop(text, stops));
  }
}

TEST_CASE("what could become a stop string is as long as the longest border of the text") {
  generator random(2);
  for (int round = 0; round < 3000; ++round) {
    const auto stops = random_stops(random);
    std::string text;
    stop_matcher matcher(stops);
    for (int i = 0; i < 20; ++i) {
      text += "ab"[pick(random, 2)];
      if (matcher.push(text.substr(text.size() - 1))) break;
      std::size_t open = 0;
      for (const std::string& stop : stops)
        for (std::size_t n = 1; n < stop.size() && n <= text.size(); ++n)
          if (text.compare(text.size() - n, n, stop, 0, n) == 0) open = std::max(open, n);
      REQUIRE(matcher.open_bytes() == open);
    }
  }
}

TEST_CASE("assembled text is the whole text cut at its first stop string, in whole code points") {
  generator random(3);
  const auto tokens = byte_tokenizer();
  for (int round = 0; round < 5000; ++round) {
    const auto stops = random_stops(random);
    const auto ids = random_tokens(random, tokens->size());
    text_assembler assembler(tokens, stops);
    std::vector<stream_token> out;
    bool stopped = false;
    std::size_t fed = 0;
    for (; fed < ids.size() && !stopped; ++fed) stopped = assembler.push({{ids[fed]}, {}, {}}, out);
    if (!stopped) assembler.finish(out);

    std::string text;
    std::vector<std::int32_t> seen;
    for (const stream_token& token : out) {
      REQUIRE(whole_code_points(token.text));
      text += token.text;
      seen.insert(seen.end(), token.ids.begin(), token.ids.end());
    }
    REQUIRE(text == cut_at_stop(whole_text(ids), stops));
    REQUIRE(seen == std::vector<std::int32_t>(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(seen.size())));
    if (!stopped) REQUIRE(seen == ids);
  }
}

TEST_CASE("text without a stop string's beginning is not held back") {
  text_assembler assembler(byte_tokenizer(), {"STOP"});
  std::vector<stream_token> out;
  for (char c : std::string("so S")) REQUIRE_FALSE(assembler.push({{static_cast<unsigned char>(c)}, {}, {}}, out));
  CHECK(out.size() == 3);
  CHECK(assembler.held_bytes() == 1);
  REQUIRE_FALSE(assembler.push({{'o'}, {}, {}}, out));
  CHECK(out.size() == 5);
  CHECK(assembler.held_bytes() == 0);
}

TEST_CASE("a token that ends inside a code point goes at once, and the one that completes it has its text") {
  text_assembler assembler(byte_tokenizer(), {"STOP"});
  std::vector<stream_token> out;
  const std::string snowman = "\xE2\x98\x83";
  for (std::size_t i = 0; i < snowman.size(); ++i) {
    REQUIRE_FALSE(assembler.push({{static_cast<unsigned char>(snowman[i])}, {}, {}}, out));
    REQUIRE(out.size() == i + 1);
    CHECK(out.back().text == (i + 1 < snowman.size() ? "" : snowman));
  }
  REQUIRE_FALSE(assembler.push({{0xE2}, {}, {}}, out));
  REQUIRE_FALSE(assembler.finish(out));
  REQUIRE(out.size() == 5);
  CHECK(out[3].text.empty());
  CHECK(out[4].text == "\xEF\xBF\xBD");
  CHECK(out[4].ids.empty());
}

TEST_CASE("log-probabilities stay with their tokens while text is held back") {
  generator random(4);
  const auto tokens = byte_tokenizer();
  for (int round = 0; round < 1000; ++round) {
    auto what = std::make_shared<request>();
    what->stop = random_stops(random);
    what->top_logprobs = 1;
    generation one(what, tokens, nullptr, {});
    one.admit(3);
    std::vector<std::int32_t> fed;
    for (std::int32_t id : random_tokens(random, tokens->size())) {
      if (one.ended()) break;
      step_token token;
      token.id = id;
      token.logprob = -0.5f * static_cast<float>(fed.size());
      token.top = {{id, token.logprob}};
      fed.push_back(id);
      one.append(token, {});
    }
    const bool by_stop = one.ended();
    step_token end;
    end.end = sequence_end::eos;
    one.append(end, {});
    REQUIRE(one.used().completion_tokens == static_cast<std::int32_t>(fed.size()));
    const auto logprobs = one.log().logprobs_between(0, one.log().size());
    REQUIRE(logprobs.size() == one.log().ids().size());
    if (!by_stop) REQUIRE(logprobs.size() == fed.size());
    for (std::size_t i = 0; i < logprobs.size(); ++i) {
      REQUIRE(logprobs[i].id == fed[i]);
      REQUIRE(logprobs[i].bytes == tokens->token_bytes(fed[i]));
      REQUIRE(logprobs[i].logprob == -0.5f * static_cast<float>(i));
      REQUIRE(logprobs[i].top_ids == std::vector<std::int32_t>{fed[i]});
    }
  }
}
