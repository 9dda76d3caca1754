// Loading of models and the table of architectures. Knows no weights' names.
#include "models/model.hpp"

#include <future>
#include <utility>

#include "models/chat_template/chat_template.hpp"
#include "models/gguf/gguf_file.hpp"
#include "models/gguf/gguf_vocabulary.hpp"
#include "models/llama/llama_load.hpp"
#include "models/tokenizer/tokenizer.hpp"

namespace troupe::models {
namespace {

struct architecture {
  std::string_view name;
  result<std::unique_ptr<const network>> (*load)(const gguf_file&, kernels::lane&, const load_progress&);
};

/// A new architecture is a new line here and a folder beside llama/.
constexpr architecture architectures[] = {{"llama", load_llama}};

result<const architecture*> find_architecture(const gguf_file& file) {
  auto name = file.string("general.architecture");
  if (!name) return std::move(name).why();
  for (const architecture& known : architectures) {
    if (known.name == *name) return &known;
  }
  return error{errc::unsupported,
               file.name() + ": architecture \"" + std::string(*name) + "\" is not known (known: " + known_architectures() + ")",
               {}};
}

/// What a model says and hears, apart from its weights.
struct language {
  std::shared_ptr<const models::tokenizer> tokenizer;
  std::shared_ptr<const models::chat_template> chat_template;
  std::string bos_text;
  std::string eos_text;
};

std::string token_text(const tokenizer& tokens, std::optional<std::int32_t> id) {
  return id ? std::string(tokens.token_bytes(*id)) : std::string();
}

result<language> read_language(const gguf_file& file) {
  language language;
  if (lacks_vocabulary(file)) return language;
  auto vocabulary = read_vocabulary(file);
  if (!vocabulary) return std::move(vocabulary).why();
  auto tokens = tokenizer::create(*std::move(vocabulary));
  if (!tokens) return error{tokens.why().code, file.name() + ": " + tokens.why().text, {}};
  auto source = read_chat_template(file);
  if (!source) return std::move(source).why();
  auto parsed = source->empty() ? result<chat_template>(chat_template::chatml()) : chat_template::parse(*source, file.name());
  if (!parsed) return std::move(parsed).why();
  language.tokenizer = std::make_shared<const models::tokenizer>(*std::move(tokens));
  language.chat_template = std::make_shared<const models::chat_template>(*std::move(parsed));
  language.bos_text = token_text(*language.tokenizer, language.tokenizer->bos());
  language.eos_text = token_text(*language.tokenizer, language.tokenizer->eos());
  return language;
}

}  // namespace

std::string known_architectures() {
  std::string names;
  for (const architecture& known : architectures) {
    if (!names.empty()) names += ", ";
    names += known.name;
  }
  return names;
}

result<std::shared_ptr<const loaded_model>> load_model(const std::string& path, kernels::lane& lane,
                                                       const load_progress& progress) {
  auto opened = gguf_file::open(path);
  if (!opened) return std::move(opened).why();
  auto file = std::make_shared<const gguf_file>(*std::move(opened));
  auto found = find_architecture(*file);
  if (!found) return std::move(found).why();
  file->prefetch_all();
  // The vocabulary takes as long as the weights of a small model do; both only read the file.
  auto language = std::async(std::launch::async, [&file] { return read_language(*file); });
  auto network = (*found)->load(*file, lane, progress);
  auto speech = language.get();
  if (!network) return std::move(network).why();
  if (!speech) return std::move(speech).why();
  auto model = std::make_shared<loaded_model>();
  model->path = path;
  model->architecture = (*found)->name;
  auto name = file->string_or("general.name", "");
  if (!name) return std::move(name).why();
  model->name = *name;
  model->file_bytes = file->size();
  model->network = *std::move(network);
  model->tokenizer = std::move(speech->tokenizer);
  model->chat_template = std::move(speech->chat_template);
  model->bos_text = std::move(speech->bos_text);
  model->eos_text = std::move(speech->eos_text);
  model->file = std::move(file);
  if (model->tokenizer && model->tokenizer->size() > model->shape().vocabulary) {
    return error{errc::corrupt_file,
                 path + ": the vocabulary has " + std::to_string(model->tokenizer->size()) + " tokens, the weights only " +
                     std::to_string(model->shape().vocabulary),
                 {}};
  }
  return std::shared_ptr<const loaded_model>(std::move(model));
}

}  // namespace troupe::models
