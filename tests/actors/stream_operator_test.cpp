// Operators: passing, rewriting, dropping and stopping with a bounded look-ahead.
#include <random>
#include <stdexcept>

#include "actors/byte_tokenizer.hpp"
#include "actors/stream/generation.hpp"
#include "support/catch.hpp"

using namespace troupe;
using namespace troupe::actors;

namespace {

struct pass_all {
  void operator()(token_window& window) { window.pass(window.size()); }
};
struct take_nothing {
  void operator()(token_window&) {}
};
// Replaces "cat" by "dog", whatever tokens it comes in; needs two tokens of look-ahead when they are single letters.
struct cat_to_dog {
  void operator()(token_window& window) {
    if (window.text().substr(0, 3) == "cat" && window.size() >= 3) window.rewrite(3, "dog");
    else window.pass();
  }
};
struct drop_vowels {
  void operator()(token_window& window) {
    if (std::string("aeiou").find(window[0].text) != std::string::npos) window.drop();
    else window.pass();
  }
};
struct stop_at_bang {
  void operator()(token_window& window) {
    if (window[0].text == "!") window.stop();
    else window.pass();
  }
};
struct count_then_throw {
  int seen = 0;
  void operator()(token_window& window) {
    if (++seen > 3) throw std::runtime_error("a bad operator");
    window.pass();
  }
};
struct look_ahead_is_bounded {
  std::size_t held;
  void operator()(token_window& window) {
    if (window.size() > held + 1) throw std::runtime_error("the window is too long");
    if (!window.at_end() && window.size() != held + 1) throw std::runtime_error("the window is too short");
  }
};

generation run(const std::string& letters, const operator_chain& chain, std::vector<std::string> stops = {}) {
  auto what = std::make_shared<request>();
  what->stop = std::move(stops);
  generation one(what, tests::byte_tokenizer(), &chain, {});
  one.admit(1);
  for (char c : letters) {
    step_token token;
    token.id = static_cast<unsigned char>(c);
    one.append(token, {});
  }
  step_token end;
  end.end = sequence_end::eos;
  one.append(end, {});
  return one;
}

}  // namespace

TEST_CASE("operators that change nothing change nothing, whatever they hold") {
  std::mt19937 random(5);
  for (int round = 0; round < 300; ++round) {
    std::string text;
    for (unsigned n = random() % 30; n > 0; --n) text += static_cast<char>('a' + random() % 3);
    operator_chain chain;
    for (unsigned n = random() % 4; n > 0; --n) {
      const std::size_t held = random() % 7;
      if (random() % 2) chain.add(take_nothing{}, held);
      else if (random() % 2) chain.add(look_ahead_is_bounded{held}, held);
      else chain.add(pass_all{}, held);
    }
    const generation one = run(text, chain);
    REQUIRE_FALSE(one.failure());
    REQUIRE(one.log().text_from(0) == text);
    REQUIRE(one.log().size() == text.size());
  }
}

TEST_CASE("an operator rewrites across tokens with look-ahead") {
  CHECK(run("a cat, a cast, a cat", operator_chain{}.add(cat_to_dog{}, 2)).log().text_from(0) ==
        "a dog, a cast, a dog");
}

TEST_CASE("a rewritten span is one entry that keeps all its ids") {
  const generation one = run("cats", operator_chain{}.add(cat_to_dog{}, 2));
  CHECK(one.log().size() == 2);
  CHECK(one.log().ids() == std::vector<std::int32_t>{'c', 'a', 't', 's'});
}

TEST_CASE("dropped tokens leave the text and stay in the usage") {
  const generation one = run("banana", operator_chain{}.add(drop_vowels{}));
  CHECK(one.log().text_from(0) == "bnn");
  CHECK(one.used().completion_tokens == 6);
}

TEST_CASE("an operator stops its generation, and those behind it see the end") {
  const generation one = run("cat!cat", operator_chain{}.add(stop_at_bang{}).add(cat_to_dog{}, 9));
  CHECK(one.log().text_from(0) == "dog");
  CHECK(one.ended_early());
  CHECK(one.last_event(1).reason == finish_reason::stop);
  CHECK(one.used().completion_tokens == 4);
}

TEST_CASE("stop strings are looked for in the model's own text, before operators") {
  CHECK(run("xcatdogy", operator_chain{}.add(cat_to_dog{}, 2), {"dog"}).log().text_from(0) == "xdog");
}

TEST_CASE("an operator that throws fails its generation with a reason") {
  const generation one = run("banana", operator_chain{}.add(count_then_throw{}));
  REQUIRE(one.failure());
  CHECK(one.failure()->text.find("a bad operator") != std::string::npos);
  CHECK(one.log().text_from(0) == "ban");
}

TEST_CASE("each generation has its own copy of an operator's state") {
  const operator_chain chain = operator_chain{}.add(count_then_throw{});
  CHECK_FALSE(run("ban", chain).failure());
  CHECK_FALSE(run("ban", chain).failure());
}

TEST_CASE("a copied generation goes on by itself") {
  auto what = std::make_shared<request>();
  const operator_chain chain = operator_chain{}.add(cat_to_dog{}, 2);
  generation one(what, tests::byte_tokenizer(), &chain, {});
  step_token token;
  for (char c : std::string("ca")) token.id = c, one.append(token, {});
  generation fork = one;
  token.id = 't', one.append(token, {});
  token.id = 'n', fork.append(token, {});
  token.end = sequence_end::eos;
  one.append(token, {});
  fork.append(token, {});
  CHECK(one.log().text_from(0) == "dog");
  CHECK(fork.log().text_from(0) == "can");
}
