// Loading of models and the table of architectures. Knows no weights' names.
#include "models/model.hpp"

#include <future>
#include <utility>

#include "models/gguf/gguf_file.hpp"
#include "models/language.hpp"
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
  return error{
      errc::unsupported,
      file.name() + ": architecture \"" + std::string(*name) + "\" is not known (known: " + known_architectures() + ")",
      {}};
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
                                                       const load_progress& progress,
                                                       const memory::copy_folder& copies) {
  auto opened = gguf_file::open(path);
  if (!opened) return std::move(opened).why();
  auto file = std::make_shared<const gguf_file>(*std::move(opened));
  auto found = find_architecture(*file);
  if (!found) return std::move(found).why();
  // The vocabulary takes as long as the weights of a small model do; neither waits for the other.
  auto language = std::async(std::launch::async, [&] { return read_language(*file, copies); });
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
                 path + ": the vocabulary has " + std::to_string(model->tokenizer->size()) +
                     " tokens, the weights only " + std::to_string(model->shape().vocabulary),
                 {}};
  }
  return std::shared_ptr<const loaded_model>(std::move(model));
}

}  // namespace troupe::models
