// The tokenizer as a filter, for differential.py: one JSON line {"text", optional "pre", optional "special"} in, one
// JSON array of ids out. "--vocabulary" prints the default model's tokens, kinds and merges instead.
// Exits with 77 when the default model is not in the cache.
#include <simdjson.h>

#include <iostream>
#include <map>
#include <string>

#include "fixtures.hpp"

using namespace troupe::models;

namespace {

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + '"';
}

template <class List, class Write>
void print_array(const List& list, Write write) {
  const char* gap = "";
  std::cout << '[';
  for (const auto& item : list) std::cout << std::exchange(gap, ",") << write(item);
  std::cout << ']';
}

void print_vocabulary(const vocabulary_data& v) {
  std::cout << "{\"tokens\":";
  print_array(v.tokens, quoted);
  std::cout << ",\"kinds\":";
  print_array(v.kinds, [](token_kind kind) { return static_cast<int>(kind); });
  std::cout << ",\"merges\":";
  print_array(v.merges, quoted);
  std::cout << "}\n";
}

void print_ids(const tokenizer& tokens, simdjson::dom::element line) {
  bool special = false;
  if (line["special"].get(special)) special = false;
  print_array(tokens.encode(std::string_view(line["text"]), special).value_or_throw(), [](int32_t id) { return id; });
  std::cout << '\n';
}

}  // namespace

int main(int argc, char** argv) {
  const auto vocabulary = testing::default_vocabulary();
  if (!vocabulary) return 77;
  if (argc > 1 && std::string_view(argv[1]) == "--vocabulary") {
    print_vocabulary(*vocabulary);
    return 0;
  }
  std::ios::sync_with_stdio(false);
  std::map<std::string, std::shared_ptr<const tokenizer>> by_family;
  simdjson::dom::parser parser;
  for (std::string text; std::getline(std::cin, text);) {
    const simdjson::dom::element line = parser.parse(text);
    std::string_view family;
    if (line["pre"].get(family)) family = "smollm";
    auto& tokens = by_family[std::string(family)];
    if (!tokens) tokens = testing::default_tokenizer(family);
    print_ids(*tokens, line);
  }
}
