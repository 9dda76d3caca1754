// Requests checked and encoded: ranges, roles, lengths, and that a user's text never becomes a control token.
#include <limits>

#include "actors/byte_tokenizer.hpp"
#include "actors/tokenizer/prompt_encoder.hpp"
#include "actors/tokenizer/request_check.hpp"
#include "support/catch.hpp"

using namespace troupe;
using namespace troupe::actors;

namespace {

constexpr const char* chat_source =
    "{% for m in messages %}<|end|>{{ m.role }}:{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|end|>{% "
    "endif %}";

prompt_encoder encoder(std::int32_t context = 100) {
  return {tests::byte_tokenizer(), models::chat_template::parse(chat_source).value_or_throw(), context};
}
result<encoded_prompt> encode(const request& what, std::int32_t context = 100) {
  return encoder(context).encode(7, what, {});
}
request chat(std::string content) {
  request what;
  what.prompt = chat_prompt{{"user", std::move(content)}};
  return what;
}
std::string fault(const request& what) {
  const auto ok = check_request(what);
  return ok ? "" : ok.why().param;
}

}  // namespace

TEST_CASE("a request with the defaults is in order") { CHECK(fault(chat("hello")).empty()); }

TEST_CASE("each number out of range is refused by its name, and so is NaN") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  const auto faulty = [](auto set) {
    request what = chat("x");
    set(what);
    return fault(what);
  };
  for (float bad : {-0.1f, 2.1f, nan, infinity})
    CHECK(faulty([&](request& r) { r.how.temperature = bad; }) == "temperature");
  for (float bad : {0.0f, 1.1f, nan}) CHECK(faulty([&](request& r) { r.how.top_p = bad; }) == "top_p");
  for (float bad : {-0.1f, 1.1f, nan}) CHECK(faulty([&](request& r) { r.how.min_p = bad; }) == "min_p");
  for (float bad : {0.0f, 11.0f, nan})
    CHECK(faulty([&](request& r) { r.how.repetition_penalty = bad; }) == "repetition_penalty");
  for (float bad : {-2.1f, 2.1f, nan})
    CHECK(faulty([&](request& r) { r.how.presence_penalty = bad; }) == "presence_penalty");
  for (float bad : {-2.1f, 2.1f, nan})
    CHECK(faulty([&](request& r) { r.how.frequency_penalty = bad; }) == "frequency_penalty");
  for (float bad : {-101.0f, nan}) CHECK(faulty([&](request& r) { r.how.logit_bias = {{1, bad}}; }) == "logit_bias");
  CHECK(faulty([](request& r) { r.how.logit_bias.resize(1025); }) == "logit_bias");
  CHECK(faulty([](request& r) { r.how.top_k = -1; }) == "top_k");
  CHECK(faulty([](request& r) { r.max_tokens = 0; }) == "max_tokens");
  CHECK(faulty([](request& r) { r.top_logprobs = 21; }) == "top_logprobs");
  CHECK(faulty([](request& r) { r.stop = {"ok", ""}; }) == "stop[1]");
  CHECK(faulty([](request& r) { r.stop = {"\xFF"}; }) == "stop[0]");
  CHECK(faulty([](request& r) { r.stop.assign(17, "x"); }) == "stop");
}

TEST_CASE("messages need a known role, and there must be one") {
  request what;
  what.prompt = chat_prompt{};
  CHECK(fault(what) == "messages");
  what.prompt = chat_prompt{{"user", "x"}, {"<|end|>", "y"}};
  CHECK(fault(what) == "messages[1].role");
  what.prompt = token_prompt{};
  CHECK(fault(what) == "prompt");
}

TEST_CASE("a chat is rendered and encoded, and a user's control token stays text") {
  const std::int32_t control = *tests::byte_tokenizer()->eos();
  const auto encoded = encode(chat("a<|end|>"));
  REQUIRE(encoded);
  const auto& ids = *encoded->ids;
  CHECK(ids.front() == control);
  CHECK(ids.back() == control);
  CHECK(std::count(ids.begin(), ids.end(), control) == 2);
  std::string text;
  for (std::int32_t id : ids) text += tests::byte_tokenizer()->token_bytes(id);
  CHECK(text == "<|end|>user:a<|end|><|end|>");
}

TEST_CASE("a prompt that does not fit is refused with both numbers, and one that just fits leaves one token") {
  request what;
  what.prompt = token_prompt(9000, 'a');
  const auto refused = encode(what, 8192);
  REQUIRE_FALSE(refused);
  CHECK(refused.why().code == errc::context_length_exceeded);
  CHECK(refused.why().text == "the prompt has 9,000 tokens, the context of this model is 8,192");
  what.prompt = token_prompt(100, 'a');
  CHECK_FALSE(encode(what, 100));
  what.prompt = token_prompt(99, 'a');
  REQUIRE(encode(what, 100));
  CHECK(encode(what, 100)->terms->max_tokens == 1);
}

TEST_CASE("a text far over the context is not encoded to its end") {
  request what;
  what.prompt = std::string(500'000, 'x');
  const auto refused = encode(what);
  REQUIRE_FALSE(refused);
  CHECK(refused.why().text == "the prompt has more than 66,336 tokens, the context of this model is 100");
  CHECK(refused.why().param == "prompt");
  CHECK(encode(chat(std::string(500'000, 'x'))).why().param == "messages");
  what.prompt = token_prompt(101, 'a');
  CHECK(encode(what).why().param == "prompt");
}

TEST_CASE("terms carry the clamped length, the end ids and a seed") {
  request what = chat("hi");
  what.max_tokens = 1000;
  const auto encoded = encode(what);
  REQUIRE(encoded);
  CHECK(encoded->terms->max_tokens == 100 - static_cast<std::int32_t>(encoded->ids->size()));
  CHECK(encoded->terms->end_ids == std::vector<std::int32_t>{*tests::byte_tokenizer()->eos()});
  CHECK(encoded->terms->how.seed == 7);
  what.ignore_eos = true;
  what.how.seed = 3;
  what.max_tokens = 5;
  CHECK(encode(what)->terms->end_ids.empty());
  CHECK(encode(what)->terms->how.seed == 3);
  CHECK(encode(what)->terms->max_tokens == 5);
}

TEST_CASE("token ids outside the vocabulary are refused, in the prompt and in logit_bias") {
  request what;
  what.prompt = token_prompt{'a', -1};
  CHECK(encode(what).why().param == "prompt");
  what.prompt = token_prompt{'a', tests::byte_tokenizer()->size()};
  CHECK(encode(what).why().param == "prompt");
  what.prompt = token_prompt{'a'};
  what.how.logit_bias = {{tests::byte_tokenizer()->size(), 1.0f}};
  CHECK(encode(what).why().param == "logit_bias");
}

TEST_CASE("an empty text without a begin token is refused, and token prompts are used as they are") {
  request what;
  what.prompt = std::string();
  CHECK(encode(what).why().code == errc::invalid_argument);
  what.prompt = token_prompt{'z', 'a', 'b'};
  CHECK(*encode(what)->ids == std::vector<std::int32_t>{'z', 'a', 'b'});
}
