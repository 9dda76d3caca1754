// The scans behind first_word. In regular expressions, which try their branches in order, the families are
//   gpt-2      's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//   smollm     each \p{N} by itself first; then gpt-2 between them
//   llama-bpe  (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*
//              |\s*[\r\n]+|\s+(?!\S)|\s+
//   qwen2      llama-bpe with \p{N} in place of \p{N}{1,3}
#include "models/tokenizer/pre_tokenizer.hpp"

#include <array>
#include <climits>

#include "models/tokenizer/code_point.hpp"

namespace troupe::models {
namespace {

using enum character_class;

constexpr std::array<split_rules, 4> families{{
    {.name = "gpt-2"},
    {.name = "smollm", .digits_together = 1, .digits_first = true},
    {.name = "llama-bpe", .llama3_style = true, .digits_together = 3, .whole_words = true},
    {.name = "qwen2", .llama3_style = true, .digits_together = 1},
}};

bool is_blank(character_class kind) { return kind == space || kind == newline; }

size_t end_of_run(character_class wanted, std::string_view text, size_t at, int most = INT_MAX) noexcept {
  while (at < text.size() && most-- > 0) {
    const classified c = classify(text, at);
    if (c.kind != wanted) break;
    at += c.length;
  }
  return at;
}

// 's 't 'm 'd 're 've 'll: the length at the front of `text`, or 0.
size_t contraction(std::string_view text, bool any_case) noexcept {
  if (text.size() < 2 || text[0] != '\'') return 0;
  const auto letter = [&](size_t at) {
    if (at >= text.size()) return '\0';
    return any_case && text[at] >= 'A' && text[at] <= 'Z' ? static_cast<char>(text[at] | 0x20) : text[at];
  };
  const char a = letter(1), b = letter(2);
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
  if (((a == 'r' || a == 'v') && b == 'e') || (a == 'l' && b == 'l')) return 3;
  // U+017F, the long s, is an s where case does not matter.
  if (any_case && text.substr(1, 2) == "\xC5\xBF") return 3;
  return 0;
}

struct blank_run {
  size_t end = 0;
  size_t last_start = 0;          // where its last character begins
  size_t after_last_newline = 0;  // 0: none
};

blank_run read_blanks(std::string_view text) noexcept {
  blank_run run;
  while (run.end < text.size()) {
    const classified c = classify(text, run.end);
    if (!is_blank(c.kind)) break;
    run.last_start = run.end;
    run.end += c.length;
    if (c.kind == newline) run.after_last_newline = run.end;
  }
  return run;
}

// White space that no other branch took: all of it at the end of the text, else all but the last character, which
// may belong to the next word.
size_t blank_word(const split_rules& rules, std::string_view text) noexcept {
  const blank_run run = read_blanks(text);
  if (rules.llama3_style && run.after_last_newline > 0) return run.after_last_newline;
  const bool ends_text = run.end == text.size() || (rules.digits_first && classify(text, run.end).kind == number);
  if (ends_text || run.last_start == 0) return run.end;
  return run.last_start;
}

size_t gpt2_word(const split_rules& rules, std::string_view text) noexcept {
  if (const size_t n = contraction(text, false)) return n;
  classified c = classify(text, 0);
  size_t start = 0;
  if (text[0] == ' ' && text.size() > 1) {
    const classified next = classify(text, 1);
    if (!is_blank(next.kind) && !(rules.digits_first && next.kind == number)) c = next, start = 1;
  }
  if (is_blank(c.kind)) return blank_word(rules, text);
  const int most = c.kind == number && rules.digits_together > 0 ? rules.digits_together : INT_MAX;
  return end_of_run(c.kind, text, start, most);
}

size_t llama3_word(const split_rules& rules, std::string_view text) noexcept {
  if (const size_t n = contraction(text, true)) return n;
  const classified c = classify(text, 0);
  if (c.kind == letter) return end_of_run(letter, text, 0);
  if (c.kind == number) return end_of_run(number, text, 0, rules.digits_together);

  const bool more = c.length < text.size();
  const character_class next = more ? classify(text, c.length).kind : newline;
  if (c.kind != newline && next == letter) return end_of_run(letter, text, c.length);
  if (c.kind == other || (text[0] == ' ' && more && next == other)) {
    size_t at = end_of_run(other, text, c.kind == other ? 0 : 1);
    return end_of_run(newline, text, at);
  }
  return blank_word(rules, text);
}

}  // namespace

std::optional<split_rules> find_split_rules(std::string_view name) {
  for (const split_rules& rules : families)
    if (rules.name == name) return rules;
  return std::nullopt;
}

std::string_view known_pre_tokenizers() { return "gpt-2, smollm, llama-bpe, qwen2"; }

size_t first_word(const split_rules& rules, std::string_view text) noexcept {
  return rules.llama3_style ? llama3_word(rules, text) : gpt2_word(rules, text);
}

}  // namespace troupe::models
