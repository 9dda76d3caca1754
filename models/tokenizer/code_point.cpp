// UTF-8 decoding after table 3-7 of the Unicode standard; classes from utf8proc, ASCII from a table.
#include "models/tokenizer/code_point.hpp"

#include <array>

#include <utf8proc.h>

namespace troupe::models {
namespace {

struct lead_rule {
  uint8_t length;  // of the whole sequence; 0: no lead byte
  uint8_t low;     // range of the second byte
  uint8_t high;
};

constexpr lead_rule rule_of(uint8_t lead) {
  if (lead >= 0xC2 && lead <= 0xDF) return {2, 0x80, 0xBF};
  if (lead == 0xE0) return {3, 0xA0, 0xBF};
  if (lead == 0xED) return {3, 0x80, 0x9F};
  if (lead >= 0xE1 && lead <= 0xEF) return {3, 0x80, 0xBF};
  if (lead == 0xF0) return {4, 0x90, 0xBF};
  if (lead >= 0xF1 && lead <= 0xF3) return {4, 0x80, 0xBF};
  if (lead == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

constexpr character_class ascii_class(char c) {
  if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return character_class::letter;
  if (c >= '0' && c <= '9') return character_class::number;
  if (c == '\n' || c == '\r') return character_class::newline;
  if (c == ' ' || c == '\t' || c == '\v' || c == '\f') return character_class::space;
  return character_class::other;
}

constexpr auto ascii_classes = [] {
  std::array<character_class, 128> table{};
  for (size_t i = 0; i < table.size(); ++i) table[i] = ascii_class(static_cast<char>(i));
  return table;
}();

}  // namespace

code_point read_code_point(std::string_view text) noexcept {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  if (byte(0) < 0x80) return {byte(0), 1, true, false};
  const lead_rule rule = rule_of(byte(0));
  if (rule.length == 0) return {0xFFFD, 1, false, false};

  char32_t value = byte(0) & (0x7Fu >> rule.length);
  uint8_t low = rule.low, high = rule.high;
  for (uint8_t i = 1; i < rule.length; ++i) {
    if (i >= text.size()) return {0xFFFD, i, false, true};
    if (byte(i) < low || byte(i) > high) return {0xFFFD, i, false, false};
    value = (value << 6) | (byte(i) & 0x3F);
    low = 0x80, high = 0xBF;
  }
  return {value, rule.length, true, false};
}

character_class class_of(char32_t value) noexcept {
  if (value < 0x80) return ascii_classes[value];
  if (value == 0x85) return character_class::space;  // NEL: white space by property, a control by category
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(value))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO: return character_class::letter;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO: return character_class::number;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP: return character_class::space;
    default: return character_class::other;
  }
}

classified classify(std::string_view text, size_t at) noexcept {
  const auto lead = static_cast<uint8_t>(text[at]);
  if (lead < 0x80) return {ascii_classes[lead], 1};
  const code_point c = read_code_point(text.substr(at, 4));
  if (!c.valid) return {character_class::other, 1};
  return {class_of(c.value), c.length};
}

}  // namespace troupe::models
