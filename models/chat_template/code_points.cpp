// UTF-8 stepping by hand; categories and case from utf8proc.
#include "models/chat_template/code_points.hpp"

#include <utf8proc.h>

namespace troupe::models::jinja {
namespace {

utf8proc_category_t category(char32_t symbol) {
  return symbol == invalid_symbol ? UTF8PROC_CATEGORY_CN : utf8proc_category(static_cast<utf8proc_int32_t>(symbol));
}

bool holds(std::string_view chars, std::string_view one) {
  for (std::size_t at = 0; at < chars.size();) {
    const std::size_t bytes = decode_at(chars, at).bytes;
    if (chars.substr(at, bytes) == one) return true;
    at += bytes;
  }
  return false;
}

std::size_t start_of_last(std::string_view bytes, std::size_t end) {
  std::size_t at = end - 1;
  while (at > 0 && end - at < 4 && (static_cast<unsigned char>(bytes[at]) & 0xC0) == 0x80) --at;
  return at + decode_at(bytes, at).bytes == end ? at : end - 1;
}

}  // namespace

code_point decode_at(std::string_view bytes, std::size_t at) noexcept {
  const auto first = static_cast<unsigned char>(bytes[at]);
  if (first < 0x80) return {first, 1};
  const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || length > bytes.size() - at) return {invalid_symbol, 1};
  char32_t symbol = first & (0xFFu >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    const auto next = static_cast<unsigned char>(bytes[at + i]);
    if ((next & 0xC0) != 0x80) return {invalid_symbol, 1};
    symbol = symbol << 6 | (next & 0x3F);
  }
  constexpr char32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  if (symbol < least[length] || symbol > 0x10FFFF || (symbol >= 0xD800 && symbol < 0xE000)) return {invalid_symbol, 1};
  return {symbol, length};
}

void encode(char32_t symbol, std::string& out) {
  if (symbol < 0x80) {
    out += static_cast<char>(symbol);
    return;
  }
  const int more = symbol < 0x800 ? 1 : symbol < 0x10000 ? 2 : 3;
  out += static_cast<char>((0xFF00u >> (more + 1) & 0xFF) | symbol >> (6 * more));
  for (int i = more - 1; i >= 0; --i) out += static_cast<char>(0x80 | (symbol >> (6 * i) & 0x3F));
}

std::size_t count_code_points(std::string_view bytes) noexcept {
  std::size_t count = 0;
  for (std::size_t at = 0; at < bytes.size(); at += decode_at(bytes, at).bytes) ++count;
  return count;
}

std::size_t byte_offset(std::string_view bytes, std::size_t index) noexcept {
  std::size_t at = 0;
  for (; index > 0 && at < bytes.size(); --index) at += decode_at(bytes, at).bytes;
  return at;
}

bool is_space(char32_t c) noexcept {
  return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_line_break(char32_t c) noexcept {
  return (c >= 10 && c <= 13) || (c >= 28 && c <= 30) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

bool is_alpha(char32_t symbol) noexcept {
  const auto kind = category(symbol);
  return kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_LO;
}
bool is_digit(char32_t symbol) noexcept { return category(symbol) == UTF8PROC_CATEGORY_ND; }
bool is_upper(char32_t symbol) noexcept { return category(symbol) == UTF8PROC_CATEGORY_LU; }
bool is_lower(char32_t symbol) noexcept { return category(symbol) == UTF8PROC_CATEGORY_LL; }

void append_in_case(std::string_view bytes, std::size_t at, code_point point, letter_case wanted, std::string& out) {
  const auto symbol = static_cast<utf8proc_int32_t>(point.symbol);
  if (point.symbol == invalid_symbol) {
    out.append(bytes.substr(at, point.bytes));
  } else if (point.symbol == 0xDF && wanted != letter_case::lower) {
    out += wanted == letter_case::upper ? "SS" : "Ss";
  } else {
    encode(static_cast<char32_t>(wanted == letter_case::upper   ? utf8proc_toupper(symbol)
                                 : wanted == letter_case::lower ? utf8proc_tolower(symbol)
                                                                : utf8proc_totitle(symbol)),
           out);
  }
}

byte_range strip_range(std::string_view bytes, const std::string_view* chars, strip_side side) noexcept {
  byte_range kept{0, bytes.size()};
  const auto strippable = [&](std::size_t at, code_point point) {
    return chars ? holds(*chars, bytes.substr(at, point.bytes)) : is_space(point.symbol);
  };
  while (side != strip_side::right && kept.begin < kept.end) {
    const code_point point = decode_at(bytes, kept.begin);
    if (!strippable(kept.begin, point)) break;
    kept.begin += point.bytes;
  }
  while (side != strip_side::left && kept.begin < kept.end) {
    const std::size_t last = start_of_last(bytes, kept.end);
    if (!strippable(last, decode_at(bytes, last))) break;
    kept.end = last;
  }
  return kept;
}

}  // namespace troupe::models::jinja
