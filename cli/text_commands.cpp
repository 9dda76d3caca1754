// `troupe tokenize` and `troupe render`: what the model would be given, without running it.
#include <chrono>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>

#include "base/json_writer.hpp"
#include "cli/json_lines.hpp"
#include "cli/options.hpp"
#include "cli/report.hpp"
#include "models/catalogue/model_cache.hpp"
#include "models/chat_template/chat_template.hpp"
#include "models/gguf/gguf_file.hpp"
#include "models/gguf/gguf_vocabulary.hpp"
#include "models/tokenizer/tokenizer.hpp"

namespace troupe::cli {
namespace {

result<models::gguf_file> open_model(const std::string& name) {
  auto path = models::model_cache().resolve(name);
  if (!path) return path.why();
  return models::gguf_file::open(path->string());
}

result<models::tokenizer> open_tokenizer(const models::gguf_file& file) {
  auto vocabulary = models::read_vocabulary(file);
  if (!vocabulary) return vocabulary.why();
  return models::tokenizer::create(std::move(*vocabulary));
}

void write_ids(base::json_writer& out, const std::vector<std::int32_t>& ids) {
  out.begin_array();
  for (const std::int32_t id : ids) out.value(id);
  out.end_array();
}

int tokenize_lines(const models::tokenizer& tokenizer, bool special) {
  for (std::string line; std::getline(std::cin, line);) {
    if (line.empty()) continue;
    auto text = read_text(line, "text");
    if (!text) return report(text.why());
    auto ids = tokenizer.encode(*text, special);
    if (!ids) return report(ids.why());
    std::string answer;
    base::json_writer out(answer);
    out.begin_object().key("ids");
    write_ids(out, *ids);
    out.end_object();
    std::cout << answer << '\n';
  }
  return 0;
}

/// The special token's text, or nothing where the model names none.
std::string token_text(const models::gguf_file& file, std::string_view key) {
  const auto id = file.unsigned_integer(key);
  const auto tokens = file.array("tokenizer.ggml.tokens", models::gguf_type::string);
  if (!id || !tokens || *id >= tokens->count) return {};
  return std::string(tokens->strings()[*id]);
}

result<models::chat_template> open_template(const models::gguf_file& file, const std::string& path) {
  if (!path.empty()) {
    std::ifstream in(path, std::ios::binary);
    return models::chat_template::parse(std::string(std::istreambuf_iterator<char>(in), {}), path);
  }
  auto source = models::read_chat_template(file);
  if (!source) return source.why();
  if (source->empty()) return models::chat_template::chatml();
  return models::chat_template::parse(*source);
}

}  // namespace

int tokenize(const tokenize_options& options) {
  auto file = open_model(options.model);
  if (!file) return report(file.why());
  auto tokenizer = open_tokenizer(*file);
  if (!tokenizer) return report(tokenizer.why());
  if (options.jsonl) return tokenize_lines(*tokenizer, options.special);
  auto ids = tokenizer->encode(read_standard_input(), options.special);
  if (!ids) return report(ids.why());
  std::string answer;
  base::json_writer out(answer);
  write_ids(out, *ids);
  std::cout << answer << '\n';
  return 0;
}

int render(const render_options& options) {
  auto file = open_model(options.model);
  if (!file) return report(file.why());
  auto source = open_template(*file, options.template_file);
  if (!source) return report(source.why());
  auto messages = read_messages(read_standard_input());
  if (!messages) return report(messages.why());
  std::vector<models::chat_message_view> views;
  for (const auto& [role, content] : *messages) views.push_back({role, content});
  const auto context = models::make_chat_context(views, !options.no_generation_prompt, token_text(*file, "tokenizer.ggml.bos_token_id"),
                                                 token_text(*file, "tokenizer.ggml.eos_token_id"));
  auto spans = source->render(context, std::chrono::system_clock::now());
  if (!spans) return report(spans.why());
  std::cout << models::joined(*spans);
  return 0;
}

}  // namespace troupe::cli
