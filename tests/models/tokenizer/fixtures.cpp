// Small vocabulary, reference lines, random text.
#include "fixtures.hpp"

#include <simdjson.h>

#include <array>
#include <stdexcept>

#include "models/tokenizer/byte_letters.hpp"

namespace troupe::models::testing {
namespace {

std::vector<int32_t> ids_of(simdjson::dom::element list) {
  std::vector<int32_t> ids;
  for (const int64_t id : simdjson::dom::array(list)) ids.push_back(static_cast<int32_t>(id));
  return ids;
}

template <class Each>
void each_line(const std::string& path, Each each) {
  simdjson::dom::parser parser;
  simdjson::dom::document_stream lines = parser.load_many(path);
  size_t count = 0;
  for (auto line : lines) each(line.value()), ++count;
  if (count == 0) throw std::runtime_error("no lines in " + path);
}

}  // namespace

std::shared_ptr<const tokenizer> default_tokenizer(std::string_view pre_tokenizer) {
  auto vocabulary = default_vocabulary();
  if (!vocabulary) return nullptr;
  vocabulary->pre_tokenizer = pre_tokenizer;
  return std::make_shared<const tokenizer>(tokenizer::create(std::move(*vocabulary)).value_or_throw());
}

vocabulary_data small_vocabulary() {
  vocabulary_data v;
  for (int b = 0; b < 256; ++b) v.tokens.push_back(letters_of_bytes(std::string(1, static_cast<char>(b))));
  for (const char* text : {"he", "ll", "hell", "hello", "Ġw"}) v.tokens.emplace_back(text);
  v.kinds.assign(v.tokens.size(), token_kind::normal);
  v.merges = {"h e", "l l", "he ll", "hell o", "Ġ w"};
  for (const char* text : {"<|im_start|>", "<|im_end|>"}) {
    v.tokens.emplace_back(text);
    v.kinds.push_back(token_kind::control);
  }
  v.tokens.emplace_back("<think>");
  v.kinds.push_back(token_kind::user_defined);
  v.pre_tokenizer = "gpt-2";
  v.eos = 262;
  return v;
}

std::vector<token_line> read_token_lines() {
  std::vector<token_line> lines;
  each_line("tests/reference/tokens.jsonl", [&](simdjson::dom::element line) {
    token_line l{std::string(std::string_view(line["text"])), ids_of(line["ids"]), {}};
    simdjson::dom::element with_specials;
    l.ids_with_specials = line["ids_with_specials"].get(with_specials) ? l.ids : ids_of(with_specials);
    lines.push_back(std::move(l));
  });
  return lines;
}

std::vector<chat_line> read_chat_lines() {
  std::vector<chat_line> lines;
  each_line("tests/reference/chat.jsonl", [&](simdjson::dom::element line) {
    lines.push_back({std::string(std::string_view(line["prompt"])), ids_of(line["ids"])});
  });
  return lines;
}

std::string random_text(std::mt19937& random, size_t pieces) {
  // clang-format off
  static constexpr std::array samples{
      "the",  " river", "Hello", " I'm", "'s",  "'LL", "don't", "1",   "23", "4567", " 89", "٣٤",  "Ⅷ",   "½",
      " ",    "  ",     "\t",    "\n",   "\r\n", "\n\n ", "   ", "\u00a0", "\u3000", "\u2028", "\u0085", "!", "...",
      " --",  "{}();",  "<|im_start|>", "<|im_end|>", "<think>", "é",   "e\u0301", "日本語", "한국", "привет", " мир",
      "مرحبا", "नमस्ते", "😀",     "👩‍👩‍👧", "🇫🇷",  "€",  "’s",    "ſ",   "'ſ", "𝒳",    "\xf0\xa0\x80\x80", "x_1", "\v", "~",
  };
  // clang-format on
  std::uniform_int_distribution<size_t> pick(0, samples.size() - 1);
  std::string text;
  for (size_t i = 0; i < pieces; ++i) text += samples[pick(random)];
  return text;
}

std::string decode(const tokenizer& tokens, const std::vector<int32_t>& ids) {
  std::string bytes;
  for (const int32_t id : ids) bytes += tokens.token_bytes(id);
  return bytes;
}

}  // namespace troupe::models::testing
