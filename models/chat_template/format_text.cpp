// One pass over the pattern; every inserted value keeps its own provenance.
#include "models/chat_template/format_text.hpp"

#include <algorithm>

#include "models/chat_template/code_points.hpp"
#include "models/chat_template/number_text.hpp"
#include "models/chat_template/printing.hpp"

namespace troupe::models::jinja {
namespace {

struct directive {
  bool left = false, zero = false, plus = false;
  std::size_t width = 0;
  std::optional<std::size_t> precision;
  char conversion = 's';
};

bool is_digit_char(char c) { return c >= '0' && c <= '9'; }

class percent_formatter {
public:
  percent_formatter(renderer& run, const text& pattern, const value& given)
      : run_(run), pattern_(pattern), bytes_(pattern.view()), given_(given) {
    if (given.seq() && given.seq()->kind == sequence_kind::tuple) values_ = given.seq()->items;
    else values_.push_back(given);
  }

  text format() {
    while (at_ < bytes_.size()) {
      const std::size_t stop = std::min(bytes_.find('%', at_), bytes_.size());
      out_.append(pattern_, at_, stop);
      at_ = stop;
      if (at_ < bytes_.size()) insert();
    }
    const bool tuple = given_.seq() && given_.seq()->kind == sequence_kind::tuple;
    const bool lookup =
        given_.map() || given_.is_undefined() || (given_.seq() && given_.seq()->kind <= sequence_kind::range);
    if (next_ < values_.size() && (tuple || !lookup)) run_.fail("not all values were used by the format");
    return std::move(out_);
  }

private:
  char peek() const {
    if (at_ >= bytes_.size()) run_.fail("the format ends too early");
    return bytes_[at_];
  }

  std::size_t number() {
    std::size_t made = 0;
    for (; is_digit_char(peek()); ++at_)
      made = std::min<std::size_t>(made * 10 + static_cast<std::size_t>(peek() - '0'), 1u << 30);
    return made;
  }

  const value& next() {
    if (next_ >= values_.size()) run_.fail("the format needs more values");
    return values_[next_++];
  }

  const value& named() {
    const std::size_t close = bytes_.find(')', at_);
    if (close == std::string_view::npos) run_.fail("the format ends too early");
    const value* found = find_entry(given_, bytes_.substr(at_ + 1, close - at_ - 1));
    if (!found) run_.fail("the format names a missing key");
    at_ = close + 1;
    return *found;
  }

  void insert() {
    const std::size_t begin = at_++;
    const value* chosen = peek() == '(' ? &named() : nullptr;
    directive d;
    for (;; ++at_) {
      if (peek() == '-') d.left = true;
      else if (peek() == '0') d.zero = true;
      else if (peek() == '+') d.plus = true;
      else break;
    }
    d.width = number();
    if (peek() == '.') {
      ++at_;
      d.precision = number();
    }
    d.conversion = peek();
    ++at_;
    if (d.conversion == '%') return out_.append("%", pattern_.trusted_at(begin));
    padded(d, converted(d, chosen ? *chosen : next()));
  }

  text converted(const directive& d, const value& v) const {
    if (d.conversion == 's' || d.conversion == 'r') {
      text made;
      if (d.conversion == 's') append_str(run_.cost, v, made);
      else append_repr(run_.cost, v, made);
      return d.precision ? made.slice(0, byte_offset(made.view(), *d.precision)) : made;
    }
    if (!v.as_real()) run_.fail(std::string("%") + d.conversion + " needs a number, not " + std::string(v.type_name()));
    return text(with_sign(d, number_text(d, v)), true);
  }

  std::string number_text(const directive& d, const value& v) const {
    if (d.conversion == 'f') {
      if (d.precision && *d.precision > 100) run_.fail("the format's precision is too large");
      return fixed_text(*v.as_real(), static_cast<int>(d.precision.value_or(6)));
    }
    if (d.precision) run_.fail("the format's precision fits no integer");
    if ((d.conversion == 'd' || d.conversion == 'i') && std::abs(*v.as_real()) < 9e18) {
      return std::to_string(v.as_integer() ? *v.as_integer() : static_cast<std::int64_t>(*v.as_real()));
    }
    if (d.conversion != 'x' || !v.as_integer())
      run_.fail(std::string("the format %") + d.conversion + " is not supported");
    return hexadecimal(*v.as_integer());
  }

  static std::string hexadecimal(std::int64_t number) {
    std::string backwards;
    auto rest = number < 0 ? 0 - static_cast<std::uint64_t>(number) : static_cast<std::uint64_t>(number);
    do backwards += "0123456789abcdef"[rest & 15];
    while ((rest >>= 4) > 0);
    if (number < 0) backwards += '-';
    return {backwards.rbegin(), backwards.rend()};
  }

  static std::string with_sign(const directive& d, std::string digits) {
    if (d.plus && digits[0] != '-') digits.insert(digits.begin(), '+');
    const bool sign = digits[0] == '-' || digits[0] == '+';
    if (d.zero && !d.left && d.width < 1024 && digits.size() < d.width)
      digits.insert(sign ? 1 : 0, d.width - digits.size(), '0');
    return digits;
  }

  void padded(const directive& d, const text& made) {
    const std::size_t length = count_code_points(made.view());
    const std::size_t fill = d.width > length ? d.width - length : 0;
    run_.cost.text_bytes(out_.size() + made.size() + fill);
    if (!d.left) out_.append(std::string(fill, ' '), true);
    out_.append(made);
    if (d.left) out_.append(std::string(fill, ' '), true);
  }

  renderer& run_;
  const text& pattern_;
  std::string_view bytes_;
  const value& given_;
  std::vector<value> values_;
  std::size_t at_ = 0, next_ = 0;
  text out_;
};

const value& field(renderer& run, std::string_view name, const arguments& given, std::size_t& next) {
  if (name.empty() || is_digit_char(name[0])) {
    const auto index =
        name.empty() ? std::optional<std::int64_t>(static_cast<std::int64_t>(next++)) : parse_integer(name);
    if (!index || *index < 0 || static_cast<std::size_t>(*index) >= given.positional.size())
      run.fail("the format names a missing argument");
    return given.positional[static_cast<std::size_t>(*index)];
  }
  for (const auto& [known, v] : given.named)
    if (known == name) return v;
  run.fail("the format names a missing argument, or uses a form that is not supported");
}

}  // namespace

text format_percent(renderer& run, const text& pattern, const value& given) {
  return percent_formatter(run, pattern, given).format();
}

text format_braces(renderer& run, const text& pattern, const arguments& given) {
  const std::string_view bytes = pattern.view();
  text out;
  std::size_t next = 0;
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t stop = std::min(bytes.find_first_of("{}", at), bytes.size());
    out.append(pattern, at, stop);
    if (stop == bytes.size()) break;
    if (stop + 1 < bytes.size() && bytes[stop + 1] == bytes[stop]) {
      out.append(pattern, stop, stop + 1);
      at = stop + 2;
      continue;
    }
    const std::size_t close = bytes.find('}', stop);
    if (bytes[stop] == '}' || close == std::string_view::npos) run.fail("a single brace in a format");
    append_str(run.cost, field(run, bytes.substr(stop + 1, close - stop - 1), given, next), out);
    at = close + 1;
  }
  return out;
}

}  // namespace troupe::models::jinja
