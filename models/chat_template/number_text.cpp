// Built on std::to_chars and std::from_chars, which know no locale.
#include "models/chat_template/number_text.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <limits>

#include "models/chat_template/code_points.hpp"

namespace troupe::models::jinja {
namespace {

bool digit(char c, int base = 10) {
  if (base == 16 && ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'))) return true;
  return c >= '0' && c < '0' + (base < 10 ? base : 10);
}

// Digits with single underscores between them; returns the bytes read and appends the digits.
std::size_t scan_digits(std::string_view text, int base, std::string& digits) {
  std::size_t i = 0;
  while (i < text.size()) {
    if (digit(text[i], base)) digits += text[i++];
    else if (i > 0 && text[i] == '_' && i + 1 < text.size() && digit(text[i + 1], base)) ++i;
    else break;
  }
  return i;
}

// The part of a float after its whole digits: ".5", "e3", ".5e-3"; 0 when there is none.
std::size_t scan_fraction(std::string_view text, std::string& digits) {
  std::string held;
  std::size_t i = 0;
  if (text.size() > 1 && text[0] == '.' && digit(text[1])) {
    held = ".";
    i = 1 + scan_digits(text.substr(1), 10, held);
  }
  std::size_t e = i;
  if (e < text.size() && (text[e] == 'e' || text[e] == 'E')) {
    std::string exponent = "e";
    ++e;
    if (e < text.size() && (text[e] == '+' || text[e] == '-')) {
      if (text[e] == '-') exponent += '-';
      ++e;
    }
    if (const std::size_t read = scan_digits(text.substr(e), 10, exponent); read > 0) {
      held += exponent;
      i = e + read;
    }
  }
  digits += held;
  return i;
}

double read_real(const std::string& digits) {
  double number = 0;
  const auto done = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (done.ec != std::errc::result_out_of_range) return number;
  return digits.find("e-") == std::string::npos ? std::numeric_limits<double>::infinity() : 0.0;
}

std::string_view stripped(std::string_view text) {
  const byte_range kept = strip_range(text, nullptr, strip_side::both);
  return text.substr(kept.begin, kept.end - kept.begin);
}

}  // namespace

std::string real_text(double number) {
  if (std::isnan(number)) return "nan";
  if (std::isinf(number)) return number < 0 ? "-inf" : "inf";
  std::array<char, 64> buffer;
  const auto end =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), number, std::chars_format::scientific).ptr;
  std::string shortest(buffer.data(), end);
  const std::size_t e = shortest.find('e');
  const int exponent = std::stoi(shortest.substr(e + 1));
  if (exponent < -4 || exponent >= 16) return shortest;
  std::string digits;
  for (char c : shortest.substr(0, e))
    if (digit(c)) digits += c;
  std::string out = number < 0 || std::signbit(number) ? "-" : "";
  if (exponent < 0) return out + "0." + std::string(static_cast<std::size_t>(-exponent - 1), '0') + digits;
  const auto whole = static_cast<std::size_t>(exponent) + 1;
  if (digits.size() < whole) digits.append(whole - digits.size(), '0');
  return out + digits.substr(0, whole) + "." + (digits.size() > whole ? digits.substr(whole) : "0");
}

std::string fixed_text(double number, int decimals) {
  std::string buffer(512, '\0');  // 309 digits, a sign, a point and the decimals
  decimals = std::min(decimals, 128);
  const auto done =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), number, std::chars_format::fixed, decimals);
  buffer.resize(static_cast<std::size_t>(done.ptr - buffer.data()));
  return buffer;
}

std::optional<std::int64_t> parse_integer(std::string_view text) {
  text = stripped(text);
  std::string digits;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
    if (text[0] == '-') digits = "-";
    text.remove_prefix(1);
  }
  const std::size_t read = scan_digits(text, 10, digits);
  std::int64_t number = 0;
  if (read == 0 || read != text.size()) return std::nullopt;
  const auto done = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (done.ec != std::errc{}) return std::nullopt;
  return number;
}

std::optional<double> parse_real(std::string_view text) {
  text = stripped(text);
  bool negative = false;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
    negative = text[0] == '-';
    text.remove_prefix(1);
  }
  std::string lower;
  for (char c : text) lower += c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  const double sign = negative ? -1 : 1;
  if (lower == "inf" || lower == "infinity") return sign * std::numeric_limits<double>::infinity();
  if (lower == "nan") return std::numeric_limits<double>::quiet_NaN();
  std::string digits;
  std::size_t read = scan_digits(lower, 10, digits);
  const bool whole = read > 0;
  const std::size_t fraction = scan_fraction(std::string_view(lower).substr(read), digits);
  read += fraction;
  if (whole && fraction == 0 && read < lower.size() && lower[read] == '.') {  // "5." and "5.e3"
    ++read;
    read += scan_fraction(std::string_view(lower).substr(read), digits);
  }
  if (read == 0 || read != lower.size() || (!whole && digits[0] != '.')) return std::nullopt;
  return sign * read_real(whole ? digits : "0" + digits);
}

number_literal scan_number(std::string_view text, bool may_be_real) {
  number_literal found;
  std::string digits;
  int base = 10;
  if (text.size() > 2 && text[0] == '0') {
    const char mark = static_cast<char>(text[1] | 0x20);
    base = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 10;
    if (base != 10 && !digit(text[2], base)) base = 10;
  }
  if (base != 10) {
    found.bytes = 2 + scan_digits(text.substr(2), base, digits);
  } else {
    found.bytes = scan_digits(text, 10, digits);
    const std::size_t fraction = may_be_real ? scan_fraction(text.substr(found.bytes), digits) : 0;
    if (fraction > 0) {
      found.is_real = true;
      found.bytes += fraction;
      found.real = read_real(digits);
      return found;
    }
  }
  found.valid = std::from_chars(digits.data(), digits.data() + digits.size(), found.integer, base).ec == std::errc{};
  return found;
}

}  // namespace troupe::models::jinja
