// Tokenizer keys of a GGUF file to vocabulary_data. Knows no tokenizing.
#include "models/gguf/gguf_vocabulary.hpp"

#include <limits>
#include <optional>
#include <utility>

namespace troupe::models {
namespace {

// The largest vocabularies known have 2^18 tokens.
constexpr std::uint64_t most_tokens = 1 << 20;
constexpr std::uint64_t most_merges = 1 << 21;
constexpr std::string_view model_key = "tokenizer.ggml.model";

error bad_key(const gguf_file& file, std::string_view key, const std::string& reason) {
  return {errc::corrupt_file, file.name() + ": key \"" + std::string(key) + "\" " + reason, {}};
}

result<std::vector<std::string>> read_texts(const gguf_file& file, std::string_view key, std::uint64_t most) {
  auto array = file.array(key, gguf_type::string);
  if (!array) return std::move(array).why();
  if (array->count > most) return bad_key(file, key, "has " + std::to_string(array->count) + " entries");
  std::vector<std::string> texts;
  texts.reserve(array->count);
  for (const std::string_view text : array->strings()) texts.emplace_back(text);
  return texts;
}

/// GGUF's numbers: 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte.
result<std::vector<token_kind>> read_kinds(const gguf_file& file, std::size_t tokens) {
  constexpr std::string_view key = "tokenizer.ggml.token_type";
  constexpr token_kind known[] = {token_kind::normal,       token_kind::unknown, token_kind::control,
                                  token_kind::user_defined, token_kind::unused,  token_kind::byte};
  std::vector<token_kind> kinds;
  if (!file.has(key)) return kinds;
  auto array = file.array(key, gguf_type::int32);
  if (!array) return std::move(array).why();
  if (array->count != tokens) return bad_key(file, key, "does not have one entry a token");
  kinds.reserve(tokens);
  for (std::uint64_t i = 0; i < array->count; ++i) {
    const auto number = array->at<std::int32_t>(i);
    if (number < 0 || number > 6) return bad_key(file, key, "holds the unknown kind " + std::to_string(number));
    kinds.push_back(number == 0 ? token_kind::normal : known[number - 1]);
  }
  return kinds;
}

result<void> read_id(const gguf_file& file, std::string_view key, std::size_t tokens, std::optional<std::int32_t>& id) {
  if (!file.has(key)) return {};
  auto value = file.unsigned_integer(key);
  if (!value) return std::move(value).why();
  if (*value >= tokens) return bad_key(file, key, "is " + std::to_string(*value) + ", outside the vocabulary");
  id = static_cast<std::int32_t>(*value);
  return {};
}

result<void> read_special_ids(const gguf_file& file, vocabulary_data& vocabulary) {
  std::optional<std::int32_t> end_of_message;
  const std::pair<std::string_view, std::optional<std::int32_t>*> keys[] = {
      {"tokenizer.ggml.bos_token_id", &vocabulary.bos},
      {"tokenizer.ggml.eos_token_id", &vocabulary.eos},
      {"tokenizer.ggml.eot_token_id", &vocabulary.eot},
      {"tokenizer.ggml.unknown_token_id", &vocabulary.unk},
      {"tokenizer.ggml.eom_token_id", &end_of_message}};
  for (const auto& [key, id] : keys) {
    if (auto read = read_id(file, key, vocabulary.tokens.size(), *id); !read) return read;
  }
  if (end_of_message) vocabulary.more_eog.push_back(*end_of_message);
  return {};
}

}  // namespace

result<vocabulary_data> read_vocabulary(const gguf_file& file) {
  auto model = file.string(model_key);
  if (!model) return std::move(model).why();
  if (*model != "gpt2") {
    return error{
        errc::unsupported,
        file.name() + ": tokenizer model \"" + std::string(*model) + "\"; only \"gpt2\" (byte-level BPE) can be read",
        {}};
  }
  vocabulary_data vocabulary;
  auto tokens = read_texts(file, "tokenizer.ggml.tokens", most_tokens);
  if (!tokens) return std::move(tokens).why();
  vocabulary.tokens = *std::move(tokens);
  auto merges = read_texts(file, "tokenizer.ggml.merges", most_merges);
  if (!merges) return std::move(merges).why();
  vocabulary.merges = *std::move(merges);
  auto kinds = read_kinds(file, vocabulary.tokens.size());
  if (!kinds) return std::move(kinds).why();
  vocabulary.kinds = *std::move(kinds);
  auto pre = file.string_or("tokenizer.ggml.pre", "gpt-2");
  if (!pre) return std::move(pre).why();
  vocabulary.pre_tokenizer = *pre;
  if (auto read = read_special_ids(file, vocabulary); !read) return std::move(read).why();
  // Llama 3's files leave the key out and mean yes.
  auto add_bos = file.boolean_or("tokenizer.ggml.add_bos_token", vocabulary.bos && *pre == "llama-bpe");
  if (!add_bos) return std::move(add_bos).why();
  vocabulary.add_bos = *add_bos;
  return vocabulary;
}

bool lacks_vocabulary(const gguf_file& file) {
  const auto model = file.string_or(model_key, "none");
  return model.ok() && *model == "none";
}

result<std::string> read_chat_template(const gguf_file& file) {
  auto text = file.string_or("tokenizer.chat_template", "");
  if (!text) return std::move(text).why();
  return std::string(*text);
}

}  // namespace troupe::models
