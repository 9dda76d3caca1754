// Rules: https://jinja.palletsprojects.com/en/stable/templates/#whitespace-control
#include "models/chat_template/lexer.hpp"

#include <algorithm>
#include <optional>
#include <string_view>

#include "models/chat_template/code_points.hpp"
#include "models/chat_template/meter.hpp"
#include "models/chat_template/number_text.hpp"

namespace troupe::models::jinja {
namespace {

bool is_blank(char c) { return is_space(static_cast<unsigned char>(c)) && static_cast<unsigned char>(c) < 0x80; }
bool is_digit_char(char c) { return c >= '0' && c <= '9'; }
bool starts_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || static_cast<unsigned char>(c) >= 0x80;
}

// Line ends become \n, and one at the very end is dropped.
std::string normalized(const std::string& source) {
  std::string out;
  out.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r' && i + 1 < source.size() && source[i + 1] == '\n') continue;
    out += source[i] == '\r' ? '\n' : source[i];
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class lexer {
public:
  explicit lexer(const std::string& source) : held_(normalized(source)), source_(held_) {}

  std::vector<token> run() {
    while (at_ < source_.size()) root();
    add(token_kind::end);
    return std::move(tokens_);
  }

private:
  [[noreturn]] void fail(std::string why) const {
    throw template_failure{{errc::corrupt_file, "line " + std::to_string(line_) + ": " + std::move(why), {}}};
  }
  char peek(std::size_t ahead = 0) const { return at_ + ahead < source_.size() ? source_[at_ + ahead] : '\0'; }
  bool looking_at(std::string_view what) const { return source_.substr(at_, what.size()) == what; }

  void advance(std::size_t count) {
    line_ += static_cast<std::size_t>(std::count(source_.begin() + at_, source_.begin() + at_ + count, '\n'));
    at_ += count;
  }
  void skip_blanks() {
    std::size_t count = 0;
    while (is_blank(peek(count))) ++count;
    advance(count);
  }
  token& add(token_kind kind, std::string text = {}) {
    tokens_.push_back({kind, line_, std::move(text), 0, 0});
    return tokens_.back();
  }

  // Text up to `end`, stripped as the sign of the tag that follows asks for.
  void add_data(std::size_t end, char sign, bool tag_strips_line) {
    std::string_view data = source_.substr(at_, end - at_);
    const bool at_line_start = at_ == 0 || source_[at_ - 1] == '\n';
    if (sign == '-') {
      data = data.substr(0, strip_range(data, nullptr, strip_side::right).end);
    } else if (sign != '+' && tag_strips_line) {
      const std::size_t line = data.rfind('\n') + 1;
      const bool blank = strip_range(data.substr(line), nullptr, strip_side::right).end == 0;
      if (blank && (line > 0 || at_line_start)) data = data.substr(0, line);
    }
    if (!data.empty()) add(token_kind::data, std::string(data));
    advance(end - at_);
  }

  static char sign_of(char c) { return c == '-' || c == '+' ? c : '\0'; }

  std::size_t next_tag() const {
    for (std::size_t i = at_; i + 1 < source_.size(); ++i)
      if (source_[i] == '{' && (source_[i + 1] == '{' || source_[i + 1] == '%' || source_[i + 1] == '#')) return i;
    return source_.size();
  }

  void root() {
    const std::size_t tag = next_tag();
    if (tag == source_.size()) return add_data(tag, '+', false);
    const char kind = source_[tag + 1];
    const char sign = sign_of(tag + 2 < source_.size() ? source_[tag + 2] : '\0');
    add_data(tag, sign, kind != '{');
    if (kind == '#') return comment();
    if (kind == '%' && raw_block()) return;
    add(kind == '%' ? token_kind::block_begin : token_kind::print_begin);
    advance(sign ? 3 : 2);
    expression(kind == '%');
  }

  void comment() {
    const std::size_t end = source_.find("#}", at_ + 2);
    if (end == std::string_view::npos) fail("a comment has no end");
    const char sign = end > at_ + 2 ? sign_of(source_[end - 1]) : '\0';
    advance(end - at_);
    after_tag(sign);
  }

  // Stands on the closing delimiter; drops it and what the sign (or trim_blocks) drops after it.
  void after_tag(char sign) {
    advance(2);
    if (sign == '-') return skip_blanks();
    if (sign != '+' && peek() == '\n') advance(1);
  }

  // The length of "{%- word -%}" at `at`, or nothing; `close_sign` gets the sign before the closing delimiter.
  std::optional<std::size_t> bare_tag(std::size_t at, std::string_view word, char& close_sign) const {
    const auto skip = [&](std::size_t i) {
      while (i < source_.size() && is_blank(source_[i])) ++i;
      return i;
    };
    std::size_t i = at + 2;
    if (i < source_.size() && sign_of(source_[i])) ++i;
    i = skip(i);
    if (source_.substr(i, word.size()) != word) return std::nullopt;
    i = skip(i + word.size());
    close_sign = i < source_.size() ? sign_of(source_[i]) : '\0';
    if (close_sign) ++i;
    if (source_.substr(i, 2) != "%}") return std::nullopt;
    return i - at;
  }

  bool raw_block() {
    char sign = '\0';
    const auto open = bare_tag(at_, "raw", sign);
    if (!open || sign == '+') return false;
    advance(*open + 2);
    if (sign == '-') skip_blanks();
    for (std::size_t i = source_.find("{%", at_); i != std::string_view::npos; i = source_.find("{%", i + 2)) {
      const auto close = bare_tag(i, "endraw", sign);
      if (!close) continue;
      add_data(i, sign_of(source_[i + 2]), true);
      advance(*close);
      after_tag(sign);
      return true;
    }
    fail("a raw block has no end");
  }

  bool closes(bool block) {
    if (!open_brackets_.empty()) return false;
    const std::string_view delimiter = block ? "%}" : "}}";
    const char sign = sign_of(peek());
    const bool signed_end = (sign == '-' || (sign == '+' && block)) && source_.substr(at_ + 1, 2) == delimiter;
    if (!signed_end && !looking_at(delimiter)) return false;
    add(block ? token_kind::block_end : token_kind::print_end);
    if (signed_end) advance(1);
    if (block || sign == '-') after_tag(signed_end ? sign : '\0');
    else advance(2);
    return true;
  }

  void expression(bool block) {
    for (;;) {
      skip_blanks();
      if (at_ >= source_.size()) fail("a tag has no end");
      if (closes(block)) return;
      if (is_digit_char(peek())) number();
      else if (starts_name(peek())) name();
      else if (peek() == '\'' || peek() == '"') string();
      else symbol();
    }
  }

  void name() {
    std::size_t count = 1;
    while (starts_name(peek(count)) || is_digit_char(peek(count))) ++count;
    add(token_kind::name, std::string(source_.substr(at_, count)));
    advance(count);
  }

  void number() {
    const bool after_dot = at_ > 0 && source_[at_ - 1] == '.';  // x.0.1 is two subscripts
    const number_literal literal = scan_number(source_.substr(at_), !after_dot);
    if (!literal.valid) fail("a number is too large");
    token& made = add(literal.is_real ? token_kind::real : token_kind::integer);
    made.integer = literal.integer;
    made.real = literal.real;
    advance(literal.bytes);
  }

  void string() {
    const char quote = peek();
    std::string decoded;
    std::size_t i = at_ + 1;
    while (i < source_.size() && source_[i] != quote) {
      if (source_[i] == '\\' && i + 1 < source_.size()) i += escape(i, decoded);
      else decoded += source_[i++];
    }
    if (i >= source_.size()) fail("a string has no end");
    add(token_kind::string, std::move(decoded));
    advance(i + 1 - at_);
  }

  // Decodes the escape at `i` as Python does; returns its length. Unknown ones stay as they are.
  std::size_t escape(std::size_t i, std::string& out) const {
    constexpr std::string_view plain = "\n\\'\"abfnrtv", meaning = "\n\\'\"\a\b\f\n\r\t\v";
    const char c = source_[i + 1];
    if (const auto which = plain.find(c); which != std::string_view::npos) {
      if (c != '\n') out += meaning[which];  // an escaped line end is no character at all
      return 2;
    }
    const std::size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (c >= '0' && c <= '7') return octal_escape(i, out);
    if (digits == 0) {
      out.append({'\\', c});
      return 2;
    }
    const auto symbol = hex_value(source_.substr(i + 2, digits), digits);
    if (!symbol || *symbol > 0x10FFFF) fail("a string has a broken escape");
    encode(*symbol, out);
    return 2 + digits;
  }

  std::size_t octal_escape(std::size_t i, std::string& out) const {
    char32_t symbol = 0;
    std::size_t count = 0;
    for (; count < 3 && i + 1 + count < source_.size(); ++count) {
      const char c = source_[i + 1 + count];
      if (c < '0' || c > '7') break;
      symbol = symbol * 8 + static_cast<char32_t>(c - '0');
    }
    encode(symbol, out);
    return 1 + count;
  }

  static std::optional<char32_t> hex_value(std::string_view digits, std::size_t wanted) {
    if (digits.size() != wanted) return std::nullopt;
    char32_t made = 0;
    for (char c : digits) {
      const int digit = is_digit_char(c)       ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) return std::nullopt;
      made = made << 4 | static_cast<char32_t>(digit);
    }
    return made;
  }

  void symbol() {
    constexpr std::string_view two[] = {"//", "**", "==", "!=", ">=", "<="};
    constexpr std::string_view one = "+-*/%~[](){}<>=.:|,;";
    std::size_t length = 1;
    for (std::string_view candidate : two)
      if (looking_at(candidate)) length = 2;
    if (length == 1 && one.find(peek()) == std::string_view::npos)
      fail(std::string("unexpected character ") + shown(peek()));
    track_brackets(peek());
    add(token_kind::symbol, std::string(source_.substr(at_, length)));
    advance(length);
  }

  static std::string shown(char c) {
    return c >= ' ' && c < 0x7F ? std::string("'") + c + "'"
                                : std::string("with code ") + std::to_string(static_cast<unsigned char>(c));
  }

  void track_brackets(char c) {
    constexpr std::string_view opening = "([{", closing = ")]}";
    if (opening.find(c) != std::string_view::npos) open_brackets_ += closing[opening.find(c)];
    if (closing.find(c) == std::string_view::npos) return;
    if (open_brackets_.empty() || open_brackets_.back() != c) fail(std::string("unexpected '") + c + "'");
    open_brackets_.pop_back();
  }

  std::string held_;
  std::string_view source_;
  std::size_t at_ = 0;
  std::size_t line_ = 1;
  std::string open_brackets_;  // the closing brackets still owed
  std::vector<token> tokens_;
};

}  // namespace

std::vector<token> tokenize(const std::string& source) { return lexer(source).run(); }

}  // namespace troupe::models::jinja
