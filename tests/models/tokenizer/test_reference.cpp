// Ids against the reference files, which the model's own tokenizer made.
#include "support/catch.hpp"

#include "fixtures.hpp"

using namespace troupe::models;
using namespace troupe::models::testing;

TEST_CASE("texts encode to the reference's ids") {
  const auto tokens = default_tokenizer();
  NEED_DEFAULT_MODEL(tokens);
  for (const token_line& line : read_token_lines()) {
    INFO("text: " << line.text);
    CHECK(*tokens->encode(line.text, false) == line.ids);
    CHECK(*tokens->encode(line.text, true) == line.ids_with_specials);
  }
}

TEST_CASE("chat prompts encode to the reference's ids") {
  const auto tokens = default_tokenizer();
  NEED_DEFAULT_MODEL(tokens);
  for (const chat_line& line : read_chat_lines()) {
    INFO("prompt: " << line.prompt);
    CHECK(*tokens->encode(line.prompt, true) == line.ids);
  }
}
