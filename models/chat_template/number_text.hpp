// Numbers to and from text, as Python writes and reads them. Knows no values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace troupe::models::jinja {

/// repr(float): the shortest digits that read back the same.
std::string real_text(double number);
/// "%.*f" rounded half to even on the exact binary value, whatever the locale.
std::string fixed_text(double number, int decimals);

/// int(text) and float(text); nothing where Python raises, or beyond 64 bits.
std::optional<std::int64_t> parse_integer(std::string_view text);
std::optional<double> parse_real(std::string_view text);

struct number_literal {
  std::size_t bytes = 0;
  bool valid = true;  ///< false: does not fit
  bool is_real = false;
  std::int64_t integer = 0;
  double real = 0;
};
/// The number that `text` starts with (a digit); `may_be_real` is false after a dot.
number_literal scan_number(std::string_view text, bool may_be_real);

}  // namespace troupe::models::jinja
