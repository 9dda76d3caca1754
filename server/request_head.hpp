// A request's line and fields as plain text, copied from the header before any body byte is read: trailers can never
// change what routing and the guard decide on. Knows no socket and no parser.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace troupe::server {

struct request_head {
  std::string method;
  std::string target;                                       ///< as sent: path and query
  int version = 11;                                         ///< 10 or 11
  std::vector<std::pair<std::string, std::string>> fields;  ///< in order, names as sent

  std::string_view path() const noexcept;
  /// The value of `name` in the query, undecoded; "" where absent.
  std::string_view query(std::string_view name) const noexcept;
  /// The first field of that name (case does not matter); "" where absent.
  std::string_view field(std::string_view name) const noexcept;
  std::size_t count(std::string_view name) const noexcept;
  /// Whether a comma-separated field lists `token` (case does not matter).
  bool lists(std::string_view name, std::string_view token) const noexcept;
};

bool same_word(std::string_view a, std::string_view b) noexcept;  ///< ASCII, case does not matter
std::string_view trimmed(std::string_view text) noexcept;         ///< without blanks and tabs at the ends

}  // namespace troupe::server
