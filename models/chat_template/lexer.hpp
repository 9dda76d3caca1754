// Splits a template into tokens, white space rules applied. Knows the delimiters and literals, not the grammar.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace troupe::models::jinja {

enum class token_kind {
  data,
  print_begin,
  print_end,
  block_begin,
  block_end,
  name,
  string,
  integer,
  real,
  symbol,
  end
};

struct token {
  token_kind kind = token_kind::end;
  std::size_t line = 1;
  std::string text;  ///< data, name, decoded string or the symbol itself ("//", "==")
  std::int64_t integer = 0;
  double real = 0;
};

/// Follows Jinja with trim_blocks and lstrip_blocks set and keep_trailing_newline clear. Linear in the source.
/// Throws template_failure. The last token is `end`.
std::vector<token> tokenize(const std::string& source);

}  // namespace troupe::models::jinja
