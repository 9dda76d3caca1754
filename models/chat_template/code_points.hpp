// UTF-8 code points, as Python's str sees them: counting, stepping, classes and case. Knows nothing of provenance.
// Bytes that are not UTF-8 count as one code point each and pass through unchanged.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace troupe::models::jinja {

struct code_point {
  char32_t symbol = 0;  ///< invalid_symbol for a byte that is not UTF-8
  std::size_t bytes = 1;
};
inline constexpr char32_t invalid_symbol = 0xFFFFFFFF;

/// The code point at bytes[at]; `at` must be inside.
code_point decode_at(std::string_view bytes, std::size_t at) noexcept;
void encode(char32_t symbol, std::string& out);

std::size_t count_code_points(std::string_view bytes) noexcept;
/// The byte offset of code point `index`, or bytes.size() where there are fewer.
std::size_t byte_offset(std::string_view bytes, std::size_t index) noexcept;

bool is_space(char32_t symbol) noexcept;  ///< str.isspace
bool is_alpha(char32_t symbol) noexcept;
bool is_digit(char32_t symbol) noexcept;
bool is_upper(char32_t symbol) noexcept;
bool is_lower(char32_t symbol) noexcept;
bool is_line_break(char32_t symbol) noexcept;  ///< str.splitlines

enum class letter_case { upper, lower, title };
/// Appends bytes[at, at + point.bytes) in the wanted case. Simple case mapping, except that sharp s becomes SS.
void append_in_case(std::string_view bytes, std::size_t at, code_point point, letter_case wanted, std::string& out);

/// Where the text inside the given white space begins and ends.
struct byte_range {
  std::size_t begin, end;
};
enum class strip_side { both, left, right };
/// Without `chars` white space is stripped, else every code point in `chars`.
byte_range strip_range(std::string_view bytes, const std::string_view* chars, strip_side side) noexcept;

}  // namespace troupe::models::jinja
