// Reads a model's language from its file.
#include "models/language.hpp"

#include <utility>

#include "models/gguf/gguf_vocabulary.hpp"
#include "models/kept_tokenizer.hpp"

namespace troupe::models {
namespace {

std::string token_text(const tokenizer& tokens, std::optional<std::int32_t> id) {
  return id ? std::string(tokens.token_bytes(*id)) : std::string();
}

}  // namespace

result<language> read_language(const gguf_file& file, const memory::copy_folder& copies) {
  language language;
  if (lacks_vocabulary(file)) return language;
  auto tokens = kept_tokenizer(file, copies);
  if (!tokens) return std::move(tokens).why();
  auto source = read_chat_template(file);
  if (!source) return std::move(source).why();
  auto parsed =
      source->empty() ? result<chat_template>(chat_template::chatml()) : chat_template::parse(*source, file.name());
  if (!parsed) return std::move(parsed).why();
  language.tokenizer = std::make_shared<const models::tokenizer>(*std::move(tokens));
  language.chat_template = std::make_shared<const models::chat_template>(*std::move(parsed));
  language.bos_text = token_text(*language.tokenizer, language.tokenizer->bos());
  language.eos_text = token_text(*language.tokenizer, language.tokenizer->eos());
  return language;
}

}  // namespace troupe::models
