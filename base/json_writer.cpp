// Escaping and number printing for json_writer.
#include "base/json_writer.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>

namespace troupe::base {
namespace {

/// Bytes that may be copied as they are: printable ASCII but quote and backslash.
constexpr auto plain = [] {
  std::array<bool, 256> table{};
  for (std::size_t c = 0x20; c < 0x80; ++c) table[c] = c != '"' && c != '\\';
  return table;
}();

struct sequence {
  std::size_t length;  ///< bytes to skip, at least 1
  bool valid;
};

bool between(unsigned char byte, unsigned low, unsigned high) { return byte >= low && byte <= high; }

/// The UTF-8 sequence at the start of `text`, whose first byte is not ASCII. A broken one is as long as its part that
/// could still have begun a valid one ("maximal subpart", Unicode 15, 3.9).
sequence next_sequence(std::string_view text) {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = at(0);
  if (lead < 0xC2 || lead > 0xF4) return {1, false};
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte's range shuts out overlong forms, surrogates and what lies beyond U+10FFFF.
  const unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  if (text.size() < 2 || !between(at(1), low, high)) return {1, false};
  for (std::size_t i = 2; i < length; ++i)
    if (text.size() <= i || !between(at(i), 0x80, 0xBF)) return {i, false};
  return {length, true};
}

void append_escape(std::string& out, char c) {
  constexpr char digits[] = "0123456789abcdef";
  switch (c) {
    case '"': out += "\\\""; return;
    case '\\': out += "\\\\"; return;
    case '\b': out += "\\b"; return;
    case '\f': out += "\\f"; return;
    case '\n': out += "\\n"; return;
    case '\r': out += "\\r"; return;
    case '\t': out += "\\t"; return;
    default: break;
  }
  const auto byte = static_cast<unsigned char>(c);
  out += "\\u00";
  out += digits[byte >> 4];
  out += digits[byte & 15];
}

/// One sequence that is not ASCII. Returns its length.
std::size_t append_sequence(std::string& out, std::string_view rest) {
  const auto [length, valid] = next_sequence(rest);
  const auto bytes = rest.substr(0, length);
  if (!valid) out += "\xEF\xBF\xBD";
  else if (bytes == "\xE2\x80\xA8") out += "\\u2028";
  else if (bytes == "\xE2\x80\xA9") out += "\\u2029";
  else out += bytes;
  return length;
}

template <class Number>
void append_digits(std::string& out, Number value) {
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  out.append(digits, end);
}

template <class Number>
void append_floating(std::string& out, Number value) {
  if (!std::isfinite(value)) {
    out += "null";
  } else if (std::fabs(value) < Number{1e15}) {
    append_digits(out, value);
  } else {  // never as bare digits: readers take those for an integer, and refuse one over 64 bits
    char digits[32];
    const auto end = std::to_chars(digits, digits + sizeof digits, value, std::chars_format::scientific).ptr;
    out.append(digits, end);
  }
}

}  // namespace

void append_json_string(std::string& out, std::string_view text) {
  out.reserve(out.size() + text.size() + 2);
  out.push_back('"');
  std::size_t done = 0;
  while (done < text.size()) {
    std::size_t end = done;
    while (end < text.size() && plain[static_cast<unsigned char>(text[end])]) ++end;
    out.append(text, done, end - done);
    done = end;
    if (done == text.size()) break;
    if (static_cast<unsigned char>(text[done]) < 0x80) append_escape(out, text[done++]);
    else done += append_sequence(out, text.substr(done));
  }
  out.push_back('"');
}

void append_json_number(std::string& out, double value) { append_floating(out, value); }
void append_json_number(std::string& out, float value) { append_floating(out, value); }
void append_json_number(std::string& out, std::int64_t value) { append_digits(out, value); }
void append_json_number(std::string& out, std::uint64_t value) { append_digits(out, value); }

}  // namespace troupe::base
