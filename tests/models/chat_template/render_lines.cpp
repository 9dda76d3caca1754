// Reads lines of {"template", "context"}, writes lines of {"text"} or {"error"}: the other side of differential.py.
// Strings in messages and tools are untrusted, as in the server; all time is 2024-05-06 07:08:09 UTC.
#include <chrono>
#include <iostream>
#include <string>

#include <boost/json/src.hpp>

#include "models/chat_template/chat_template.hpp"

namespace {

using troupe::models::value;
namespace json = boost::json;

value converted(const json::value& from, bool trusted) {
  switch (from.kind()) {
    case json::kind::null: return value::none();
    case json::kind::bool_: return value::boolean(from.get_bool());
    case json::kind::int64: return value::integer(from.get_int64());
    case json::kind::uint64: return value::real(static_cast<double>(from.get_uint64()));
    case json::kind::double_: return value::real(from.get_double());
    case json::kind::string: return value::string(troupe::models::jinja::text(std::string(from.get_string()), trusted));
    case json::kind::array: {
      std::vector<value> items;
      for (const json::value& item : from.get_array()) items.push_back(converted(item, trusted));
      return value::list(std::move(items));
    }
    case json::kind::object: break;
  }
  std::vector<std::pair<value, value>> entries;
  for (const auto& [key, item] : from.get_object())
    entries.emplace_back(value::trusted(std::string(key)),
                         converted(item, trusted && key != "messages" && key != "tools"));
  return value::dict(std::move(entries));
}

json::object answer(const json::object& question) {
  using namespace std::chrono;
  const auto now = sys_days(2024y / 5 / 6) + 7h + 8min + 9s;
  const auto parsed = troupe::models::chat_template::parse(std::string(question.at("template").as_string()));
  if (!parsed) return {{"error", parsed.why().text}};
  const auto spans = parsed->render(converted(question.at("context"), true), now);
  if (!spans) return {{"error", spans.why().text}};
  return {{"text", troupe::models::joined(*spans)}};
}

}  // namespace

int main() {
  std::ios::sync_with_stdio(false);
  for (std::string line; std::getline(std::cin, line);)
    std::cout << json::serialize(answer(json::parse(line).as_object())) << '\n';
}
