// Reads what scripts pipe in. The only file of cli/ that compiles a JSON parser.
#include "cli/json_lines.hpp"

#include <boost/json/src.hpp>

#include <iostream>
#include <iterator>

namespace troupe::cli {
namespace {

namespace json = boost::json;

error wrong(std::string text) { return {errc::invalid_argument, std::move(text), ""}; }

result<json::value> parse(std::string_view text) {
  boost::system::error_code failed;
  auto value = json::parse(json::string_view(text.data(), text.size()), failed);
  if (failed) return wrong("not JSON: " + failed.message());
  return value;
}

const json::value* member(const json::value& value, std::string_view key) {
  return value.is_object() ? value.as_object().if_contains(json::string_view(key.data(), key.size())) : nullptr;
}

}  // namespace

result<std::string> read_text(std::string_view line, std::string_view key) {
  auto value = parse(line);
  if (!value) return value.why();
  const auto* found = member(*value, key);
  if (!found || !found->is_string())
    return wrong("each line must be an object with a string at \"" + std::string(key) + "\"");
  return std::string(found->as_string().c_str(), found->as_string().size());
}

result<std::vector<std::int32_t>> read_ids(std::string_view line) {
  auto value = parse(line);
  if (!value) return value.why();
  const auto* found = member(*value, "ids");
  if (!found || !found->is_array()) return wrong("each line must be an object with an array of token ids at \"ids\"");
  std::vector<std::int32_t> ids;
  for (const auto& id : found->as_array()) {
    if (!id.is_int64() || id.as_int64() < 0 || id.as_int64() > INT32_MAX) return wrong("\"ids\" must hold token ids");
    ids.push_back(static_cast<std::int32_t>(id.as_int64()));
  }
  return ids;
}

result<std::vector<std::pair<std::string, std::string>>> read_messages(std::string_view text) {
  auto value = parse(text);
  if (!value) return value.why();
  const auto* list = value->is_array() ? &*value : member(*value, "messages");
  if (!list || !list->is_array()) return wrong("expected an array of messages, or an object with one at \"messages\"");
  std::vector<std::pair<std::string, std::string>> messages;
  for (const auto& message : list->as_array()) {
    const auto *role = member(message, "role"), *content = member(message, "content");
    if (!role || !role->is_string() || !content || !content->is_string())
      return wrong("each message needs the strings \"role\" and \"content\"");
    messages.emplace_back(std::string(role->as_string()), std::string(content->as_string()));
  }
  return messages;
}

result<std::vector<named_numbers>> read_numbers(std::string_view text) {
  auto value = parse(text);
  if (!value) return value.why();
  if (!value->is_array()) return wrong("expected an array of objects");
  std::vector<named_numbers> all;
  for (const auto& entry : value->as_array()) {
    if (!entry.is_object()) return wrong("expected an array of objects");
    auto& numbers = all.emplace_back();
    for (const auto& [name, content] : entry.as_object()) {
      std::vector<double> found;
      if (content.is_number()) found.push_back(content.to_number<double>());
      if (content.is_array())
        for (const auto& item : content.as_array())
          if (item.is_number()) found.push_back(item.to_number<double>());
      if (!found.empty()) numbers.emplace(std::string(name), std::move(found));
    }
  }
  return all;
}

std::string read_standard_input() { return {std::istreambuf_iterator<char>(std::cin), {}}; }

}  // namespace troupe::cli
