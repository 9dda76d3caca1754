// Methods of dicts, lists and `loop`. Those that would change their object are refused, as in Jinja's immutable
// sandbox.
#include <algorithm>

#include "models/chat_template/method_tables.hpp"
#include "models/chat_template/renderer.hpp"

namespace troupe::models::jinja {
namespace {

using given = const bound_arguments&;

value pair_of(renderer& run, const std::pair<value, value>& entry) {
  return run.list({entry.first, entry.second}, sequence_kind::tuple);
}

value items(renderer& run, const value& self, given) {
  std::vector<value> pairs;
  for (const auto& entry : self.map()->entries) pairs.push_back(pair_of(run, entry));
  return run.list(std::move(pairs), sequence_kind::dict_items);
}

value keys(renderer& run, const value& self, given) {
  std::vector<value> made;
  for (const auto& entry : self.map()->entries) made.push_back(entry.first);
  return run.list(std::move(made), sequence_kind::dict_keys);
}

value values(renderer& run, const value& self, given) {
  std::vector<value> made;
  for (const auto& entry : self.map()->entries) made.push_back(entry.second);
  return run.list(std::move(made), sequence_kind::dict_values);
}

value get(renderer&, const value& self, given arguments) {
  if (const value* found = self.map()->find(arguments.required(0))) return *found;
  return arguments[1] ? *arguments[1] : value::none();
}

value copy(renderer&, const value& self, given) { return self; }

value refuse(renderer& run, const value& self, given) {
  run.fail(std::string("a ") + std::string(self.type_name()) +
           " cannot be changed by a template; build a new one with +");
}

value index(renderer& run, const value& self, given arguments) {
  const auto& list = self.seq()->items;
  for (std::size_t i = 0; i < list.size(); ++i)
    if (run.compare(op::equal, list[i], arguments.required(0))) return value::integer(static_cast<std::int64_t>(i));
  run.fail("the value to find is not in the list");
}

value count(renderer& run, const value& self, given arguments) {
  std::int64_t times = 0;
  for (const value& one : self.seq()->items) times += run.compare(op::equal, one, arguments.required(0));
  return value::integer(times);
}

value cycle(renderer& run, const value& self, given arguments) {
  const auto& choices = arguments.all().positional;
  if (choices.empty()) run.fail("loop.cycle() needs values");
  return choices[(*self.as<std::shared_ptr<const loop_state>>())->index % choices.size()];
}

constexpr builtin mapping_methods[] = {
    {"items", "", items},        {"keys", "", keys},          {"values", "", values},
    {"get", "key default", get}, {"copy", "", copy},          {"update", "*", refuse},
    {"pop", "*", refuse},        {"setdefault", "*", refuse}, {"clear", "*", refuse}};
constexpr builtin list_methods[] = {{"index", "value", index}, {"count", "value", count}, {"copy", "", copy},
                                    {"append", "*", refuse},   {"extend", "*", refuse},   {"insert", "*", refuse},
                                    {"pop", "*", refuse},      {"remove", "*", refuse},   {"reverse", "*", refuse},
                                    {"sort", "*", refuse},     {"clear", "*", refuse}};
constexpr builtin loop_methods[] = {{"cycle", "*", cycle}};

template <std::size_t Count>
const builtin* search(const builtin (&table)[Count], std::size_t limit, std::string_view name) {
  const auto* end = table + std::min(limit, Count);
  const auto* found = std::find_if(table + 0, end, [&](const builtin& one) { return one.name == name; });
  return found == end ? nullptr : found;
}

}  // namespace

const builtin* find_method(const value& object, std::string_view name) {
  if (object.str()) return find_string_method(name);
  if (object.map()) return search(mapping_methods, std::size(mapping_methods), name);
  if (object.as<std::shared_ptr<const loop_state>>()) return search(loop_methods, std::size(loop_methods), name);
  if (!object.seq()) return nullptr;
  const sequence_kind kind = object.seq()->kind;
  if (kind == sequence_kind::list) return search(list_methods, std::size(list_methods), name);
  return kind <= sequence_kind::range ? search(list_methods, 2, name) : nullptr;  // tuples and ranges: index and count
}

}  // namespace troupe::models::jinja
