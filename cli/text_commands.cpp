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
#include "models/language.hpp"

namespace troupe::cli {
namespace {

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

result<models::language> open_language(const std::string& name) {
  auto path = models::model_cache().resolve(name);
  if (!path) return path.why();
  auto file = models::gguf_file::open(path->string());
  if (!file) return file.why();
  return models::read_language(*file);
}

result<models::chat_template> read_template(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return models::chat_template::parse(std::string(std::istreambuf_iterator<char>(in), {}), path);
}

}  // namespace

int tokenize(const tokenize_options& options) {
  auto language = open_language(options.model);
  if (!language) return report(language.why());
  const auto& tokenizer = language->tokenizer;
  if (!tokenizer) return report({errc::unsupported, "this model has no vocabulary", ""});
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
  auto language = open_language(options.model);
  if (!language) return report(language.why());
  if (!options.template_file.empty()) {
    auto other = read_template(options.template_file);
    if (!other) return report(other.why());
    language->chat_template = std::make_shared<const models::chat_template>(std::move(*other));
  }
  if (!language->chat_template)
    return report({errc::unsupported, "this model has no vocabulary, so it is told nothing", ""});
  auto messages = read_messages(read_standard_input());
  if (!messages) return report(messages.why());
  std::vector<models::chat_message_view> views;
  for (const auto& [role, content] : *messages) views.push_back({role, content});
  const auto context =
      models::make_chat_context(views, !options.no_generation_prompt, language->bos_text, language->eos_text);
  auto spans = language->chat_template->render(context, std::chrono::system_clock::now());
  if (!spans) return report(spans.why());
  std::cout << models::joined(*spans);
  return 0;
}

}  // namespace troupe::cli
