// Checks of type and range.
#include "server/json_fields.hpp"

#include <charconv>
#include <cmath>

namespace troupe::server {
namespace {

std::string short_number(double value) {
  char digits[32];
  return {digits, std::to_chars(digits, digits + sizeof digits, value).ptr};
}

}  // namespace

error wrong(std::string param, const std::string& text) {
  return {errc::invalid_argument, "`" + param + "` " + text, param};
}
error not_offered(std::string param, const std::string& text) {
  return {errc::unsupported, "`" + param + "` " + text, param};
}

result<std::string> read_text(element e, const std::string& param, std::size_t limit) {
  std::string_view text;
  if (e.get(text)) return wrong(param, "must be a string.");
  if (text.size() > limit) return wrong(param, "is longer than " + std::to_string(limit) + " bytes.");
  return std::string(text);
}

result<std::int64_t> read_whole(element e, const std::string& param, std::int64_t low, std::int64_t high) {
  std::int64_t value = 0;
  if (e.get(value) || value < low || value > high)
    return wrong(param, "must be a whole number from " + std::to_string(low) + " to " + std::to_string(high) + ".");
  return value;
}

result<bool> read_flag(element e, const std::string& param) {
  bool value = false;
  if (e.get(value)) return wrong(param, "must be true or false.");
  return value;
}

result<float> read_number(element e, const std::string& param, double low, double high) {
  double value = 0;
  if (e.get(value) || !std::isfinite(value) || value < low || value > high)
    return wrong(param, "must be a number from " + short_number(low) + " to " + short_number(high) + ".");
  return static_cast<float>(value);
}

}  // namespace troupe::server
