// Typed reading of one JSON value: each error names the field that it could not read. Knows no field's meaning. For the
// files that read requests: no other sees simdjson.
#pragma once

#include <simdjson.h>

#include <cstdint>
#include <limits>
#include <string>
#include <utility>

#include <troupe/result.hpp>

namespace troupe::server {

using simdjson::dom::element;

constexpr std::size_t any_length = std::numeric_limits<std::size_t>::max();

error wrong(std::string param, const std::string& text);
error not_offered(std::string param, const std::string& text);

result<std::string> read_text(element e, const std::string& param, std::size_t limit);  ///< of at most `limit` bytes
result<std::int64_t> read_whole(element e, const std::string& param, std::int64_t low, std::int64_t high);
result<bool> read_flag(element e, const std::string& param);
result<float> read_number(element e, const std::string& param, double low, double high);  ///< finite

/// Puts a read value where it belongs, or hands the error on.
template <class Value, class Into>
result<void> store(result<Value> read, Into& into) {
  if (!read) return std::move(read).why();
  into = static_cast<Into>(*std::move(read));
  return {};
}

}  // namespace troupe::server
