// libFuzzer target: hostile vocabularies fail to load or work, and any bytes encode and stream back as valid text.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>

#include "models/tokenizer/byte_letters.hpp"
#include "models/tokenizer/code_point.hpp"
#include "models/tokenizer/detokenizer.hpp"
#include "models/tokenizer/tokenizer.hpp"

using namespace troupe::models;

namespace {

constexpr const char* families[] = {"gpt-2", "smollm", "llama-bpe", "qwen2"};

void require(bool holds) {
  if (!holds) std::abort();
}

// The input's lines up to an empty one are tokens (a leading digit is the kind) and merges; the rest is text.
std::string_view read_vocabulary(std::string_view input, vocabulary_data& v) {
  while (!input.empty()) {
    const size_t end = std::min(input.find('\n'), input.size());
    const std::string_view line = input.substr(0, end);
    input.remove_prefix(std::min(end + 1, input.size()));
    if (line.empty()) break;
    if (line.find(' ') != std::string_view::npos) {
      v.merges.emplace_back(line);
      continue;
    }
    const bool has_kind = line[0] >= '0' && line[0] <= '5' && line.size() > 1;
    v.tokens.emplace_back(line.substr(has_kind ? 1 : 0));
    v.kinds.push_back(has_kind ? static_cast<token_kind>(line[0] - '0') : token_kind::normal);
  }
  return input;
}

void check_text(const std::shared_ptr<const tokenizer>& tokens, std::string_view text, bool all_bytes) {
  const size_t half = text.size() / 2;
  const text_span spans[] = {{text.substr(0, half), false}, {text.substr(half), true}};
  const auto ids = tokens->encode(spans).value_or_throw();
  std::string bytes, streamed;
  detokenizer out(tokens, true);
  for (const int32_t id : ids) bytes += tokens->token_bytes(id), streamed += out.push(id);
  streamed += out.finish();
  if (all_bytes) require(bytes == text);
  for (std::string_view rest = streamed; !rest.empty();) {
    const code_point c = read_code_point(rest);
    require(c.valid);
    rest.remove_prefix(c.length);
  }
  const auto plain = tokens->encode(text, false).value_or_throw();
  for (const int32_t id : plain) require(!tokens->is_control(id));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  const bool whole = (data[0] & 4) != 0;  // all 256 bytes first, so that small inputs make working vocabularies
  vocabulary_data v;
  v.pre_tokenizer = families[data[0] & 3];
  if (whole) {
    for (int b = 0; b < 256; ++b) v.tokens.push_back(letters_of_bytes(std::string(1, static_cast<char>(b))));
    v.kinds.assign(256, token_kind::normal);
    v.tokens.emplace_back("he");
    v.kinds.push_back(token_kind::normal);
    v.merges.emplace_back("h e");
  }
  const std::string_view text = read_vocabulary(input, v);
  auto made = tokenizer::create(std::move(v));
  if (made) check_text(std::make_shared<const tokenizer>(std::move(*made)), text, whole);
  return 0;
}
