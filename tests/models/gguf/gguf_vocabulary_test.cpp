// The tokenizer's keys: what a good file gives, and that bad ones are refused by name (rows 77, 78).
#include "models/gguf/gguf_vocabulary.hpp"

#include <functional>

#include "support/catch.hpp"
#include "tests/models/gguf/gguf_writer.hpp"
#include "tests/support/tiny_model.hpp"

using namespace troupe;
using models::gguf_file;
using test::gguf_writer;

namespace {

/// A small good vocabulary; a test replaces one key by leaving it out here and writing its own.
std::string vocabulary_with(const std::string& left_out, const std::function<void(gguf_writer&)>& own) {
  gguf_writer writer;
  const auto add = [&](const std::string& key, auto put) {
    if (key != left_out) put(key);
  };
  add("tokenizer.ggml.model", [&](auto& key) { writer.add<std::string>(key, "gpt2"); });
  add("tokenizer.ggml.tokens", [&](auto& key) { writer.add_array<std::string>(key, {"a", "b", "ab"}); });
  add("tokenizer.ggml.merges", [&](auto& key) { writer.add_array<std::string>(key, {"a b"}); });
  add("tokenizer.ggml.token_type", [&](auto& key) { writer.add_array<std::int32_t>(key, {1, 1, 3}); });
  add("tokenizer.ggml.eos_token_id", [&](auto& key) { writer.add<std::uint32_t>(key, 2); });
  own(writer);
  return writer.bytes();
}

result<models::vocabulary_data> read(const std::string& bytes) {
  const auto file = gguf_file::parse("v.gguf", std::as_bytes(std::span(bytes)));
  REQUIRE(file.ok());
  return models::read_vocabulary(*file);
}

void check_refused(const std::string& key, const std::function<void(gguf_writer&)>& own,
                   errc code = errc::corrupt_file) {
  const auto vocabulary = read(vocabulary_with(key, own));
  INFO(key);
  REQUIRE_FALSE(vocabulary.ok());
  CHECK(vocabulary.why().code == code);
  CHECK(vocabulary.why().text.find("v.gguf") == 0);
  if (code == errc::corrupt_file) CHECK(vocabulary.why().text.find(key) != std::string::npos);
}

}  // namespace

TEST_CASE("a vocabulary is read with its kinds, merges and special ids") {
  const std::string bytes = test::make_tiny_model().bytes();
  const auto vocabulary = read(bytes);
  REQUIRE(vocabulary.ok());
  REQUIRE(vocabulary->tokens.size() == static_cast<std::size_t>(test::tiny_vocabulary_size));
  CHECK(vocabulary->tokens[1] == "<|im_start|>");
  CHECK(vocabulary->kinds[1] == models::token_kind::control);
  CHECK(vocabulary->kinds[50] == models::token_kind::normal);
  CHECK(vocabulary->merges.front() == "Ġ t");
  CHECK(vocabulary->pre_tokenizer == "smollm");
  CHECK(vocabulary->bos == 1);
  CHECK(vocabulary->eos == 2);
  CHECK(vocabulary->unk == 0);
  CHECK_FALSE(vocabulary->eot.has_value());
  CHECK_FALSE(vocabulary->add_bos);
}

TEST_CASE("bos is wanted by default only of llama 3's files") {
  const auto with_pre = [](const char* pre) {
    return *read(vocabulary_with("", [pre](auto& w) {
      w.template add<std::string>("tokenizer.ggml.pre", pre);
      w.template add<std::uint32_t>("tokenizer.ggml.bos_token_id", 0);
    }));
  };
  CHECK(with_pre("llama-bpe").add_bos);
  CHECK_FALSE(with_pre("qwen2").add_bos);
}

TEST_CASE("missing keys and keys of the wrong type are named (row 77)") {
  const auto nothing = [](gguf_writer&) {};
  for (const char* key : {"tokenizer.ggml.model", "tokenizer.ggml.tokens", "tokenizer.ggml.merges"}) {
    check_refused(key, nothing);
    check_refused(key, [key](auto& w) { w.add(key, 1u); });
    check_refused(key, [key](auto& w) { w.template add_array<std::int8_t>(key, {1, 2, 3}); });
  }
  check_refused("tokenizer.ggml.token_type",
                [](auto& w) { w.template add_array<std::int8_t>("tokenizer.ggml.token_type", {1, 1, 1}); });
  check_refused("tokenizer.ggml.pre", [](auto& w) { w.add("tokenizer.ggml.pre", 1u); });
  check_refused("tokenizer.ggml.add_bos_token", [](auto& w) { w.add("tokenizer.ggml.add_bos_token", 1u); });
}

TEST_CASE("kinds and special ids that do not fit the vocabulary are refused (row 78)") {
  check_refused("tokenizer.ggml.token_type",
                [](auto& w) { w.template add_array<std::int32_t>("tokenizer.ggml.token_type", {1, 1}); });
  for (const std::int32_t kind : {-1, 7, 1 << 30}) {
    check_refused("tokenizer.ggml.token_type",
                  [kind](auto& w) { w.template add_array<std::int32_t>("tokenizer.ggml.token_type", {1, kind, 1}); });
  }
  for (const char* key : {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                          "tokenizer.ggml.unknown_token_id"}) {
    check_refused(key, [key](auto& w) { w.add(key, 3u); });
    check_refused(key, [key](auto& w) { w.add(key, 0xffffffffu); });
    check_refused(key, [key](auto& w) { w.template add<std::int32_t>(key, -1); });
  }
}

TEST_CASE("ten million entries are refused before they are copied (row 78)") {
  for (const char* key : {"tokenizer.ggml.tokens", "tokenizer.ggml.merges"}) {
    check_refused(key, [key](auto& w) {
      w.add_array_header(key, models::gguf_type::string, 10'000'000);
      w.add_raw(std::string(80'000'000, '\0'));
    });
  }
}

TEST_CASE("other tokenizer models are unsupported, and none is told apart") {
  check_refused(
      "tokenizer.ggml.model", [](auto& w) { w.template add<std::string>("tokenizer.ggml.model", "llama"); },
      errc::unsupported);
  test::tiny_model_options bare;
  bare.vocabulary = false;
  const std::string without = test::make_tiny_model(bare).bytes();
  CHECK(models::lacks_vocabulary(*gguf_file::parse("f", std::as_bytes(std::span(without)))));
  const std::string with = test::make_tiny_model().bytes();
  const auto file = gguf_file::parse("f", std::as_bytes(std::span(with)));
  CHECK_FALSE(models::lacks_vocabulary(*file));
  CHECK(models::read_chat_template(*file)->find("<|im_start|>") != std::string::npos);
}
