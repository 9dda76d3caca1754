// Prompts of the default model's own template and of the built-in one; run from the repository's root.
#include "support/catch.hpp"

#include <fstream>
#include <sstream>

#include "support.hpp"

using namespace chat_template_test;

namespace {
const models::chat_message_view river[] = {{"user", "Name three rivers."}};
}

TEST_CASE("the default model's template adds its system prompt and keeps it trusted") {
  std::ifstream file("tests/models/chat_template/templates/smollm2.jinja");
  REQUIRE(file);
  std::stringstream source;
  source << file.rdbuf();
  CHECK(marked(source.str(), models::make_chat_context(river, true, "<|im_start|>", "<|im_end|>")) ==
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\n[Name three rivers.]<|im_end|>\n<|im_start|>assistant\n");
}

TEST_CASE("the built-in ChatML template frames each message") {
  const auto made = chat_template::chatml().render(models::make_chat_context(river, true, "", ""), now);
  REQUIRE(made);
  CHECK(models::joined(*made) == "<|im_start|>user\nName three rivers.<|im_end|>\n<|im_start|>assistant\n");
  CHECK(made->size() == 3);
  const auto without = chat_template::chatml().render(models::make_chat_context(river, false, "", ""), now);
  REQUIRE(without);
  CHECK(models::joined(*without) == "<|im_start|>user\nName three rivers.<|im_end|>\n");
}
