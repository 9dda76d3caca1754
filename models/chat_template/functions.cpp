// Argument binding, and the global functions.
#include <algorithm>

#include "models/chat_template/builtins.hpp"
#include "models/chat_template/date_text.hpp"
#include "models/chat_template/printing.hpp"
#include "models/chat_template/renderer.hpp"

namespace troupe::models::jinja {
namespace {

// The limit of Jinja's sandbox.
constexpr std::uint64_t longest_range = 100'000;

value make_range(renderer& run, const value&, const bound_arguments& given) {
  const bool two = given[1] != nullptr;
  given.required(0);
  const std::int64_t start = two ? given.integer_or(0, 0) : 0;
  const std::int64_t stop = given.integer_or(two ? 1 : 0, 0);
  const std::int64_t step = given.integer_or(2, 1);
  if (step == 0) run.fail("range() needs a step other than zero");
  std::vector<value> items;
  for (std::int64_t at = start; step > 0 ? at < stop : at > stop;) {
    if (items.size() >= longest_range) run.fail("a range is too long (limit 100000)");
    run.cost.step();
    items.push_back(value::integer(at));
    if (__builtin_add_overflow(at, step, &at)) break;
  }
  return run.list(std::move(items), sequence_kind::range);
}

// dict(pairs or dict, name=value ...) as entries.
std::vector<std::pair<value, value>> entries_of(renderer& run, const arguments& given) {
  std::vector<std::pair<value, value>> entries;
  if (given.positional.size() > 1) run.fail("at most one positional argument is allowed");
  for (const value& from : given.positional) {
    if (from.map()) {
      entries = from.map()->entries;
      continue;
    }
    for (const auto walked = run.elements(from); const value& pair : walked->items) {
      const auto parts = run.elements(pair);
      if (parts->items.size() != 2) run.fail("a dict is made from pairs");
      if (!parts->items[0].str() && !parts->items[0].as_real() && !parts->items[0].is_none())
        run.fail(std::string("a ") + std::string(parts->items[0].type_name()) + " cannot be a key");
      entries.emplace_back(parts->items[0], parts->items[1]);
    }
  }
  for (const auto& [name, item] : given.named) entries.emplace_back(value::trusted(std::string(name)), item);
  return entries;
}

value make_dict(renderer& run, const value&, const bound_arguments& given) {
  return run.dict(entries_of(run, given.all()));
}

value make_namespace(renderer& run, const value&, const bound_arguments& given) {
  const value initial = run.dict(entries_of(run, given.all()));
  name_space& made = run.make_namespace();
  for (const auto& [name, item] : initial.map()->entries)
    made.attributes.emplace_back(to_text(run.cost, name).view(), item);
  return value(value::storage(&made));
}

value raise_exception(renderer& run, const value&, const bound_arguments& given) {
  throw template_failure{
      {errc::invalid_argument, std::string(to_text(run.cost, given.required(0)).view()), "messages"}};
}

value strftime_now(renderer& run, const value&, const bound_arguments& given) {
  return run.string(text(format_date(given.required_text(0).view(), run.now()), true));
}

constexpr builtin globals[] = {{"range", "start stop step", make_range},
                               {"dict", "*", make_dict},
                               {"namespace", "*", make_namespace},
                               {"raise_exception", "message", raise_exception},
                               {"strftime_now", "format", strftime_now}};

}  // namespace

bound_arguments::bound_arguments(renderer& run, std::string_view function, std::string_view parameters,
                                 const arguments& given)
    : run_(run), function_(function), all_(given) {
  if (parameters == "*") return;
  std::size_t index = 0;
  std::size_t used = 0;
  for (; !parameters.empty(); ++index) {
    const std::string_view name = parameters.substr(0, parameters.find(' '));
    parameters.remove_prefix(std::min(parameters.size(), name.size() + 1));
    given_.push_back(index < given.positional.size() ? &given.positional[index] : nullptr);
    for (const auto& [known, v] : given.named)
      if (known == name && !given_.back()) {
        given_.back() = &v;
        ++used;
      }
  }
  if (given.positional.size() > index)
    run.fail(std::string(function) + " takes at most " + std::to_string(index) + " arguments");
  if (used < given.named.size())
    run.fail(std::string(function) + " got an argument that it does not know, or one twice");
}

const value* bound_arguments::some(std::size_t index) const {
  return given_[index] && !given_[index]->is_none() ? given_[index] : nullptr;
}

const value& bound_arguments::required(std::size_t index) const {
  if (!given_[index]) run_.fail(std::string(function_) + " needs another argument");
  return *given_[index];
}

const text& bound_arguments::required_text(std::size_t index) const {
  const value& given = required(index);
  if (!given.str()) run_.fail(std::string(function_) + " needs a string, not " + std::string(given.type_name()));
  return *given.str();
}

std::int64_t bound_arguments::integer_or(std::size_t index, std::int64_t fallback) const {
  if (!given_[index]) return fallback;
  const auto number = given_[index]->as_integer();
  if (!number) run_.fail(std::string(function_) + " needs an integer, not " + std::string(given_[index]->type_name()));
  return *number;
}

bool bound_arguments::flag_or(std::size_t index, bool fallback) const {
  return given_[index] ? given_[index]->truthy() : fallback;
}

value call_builtin(renderer& run, const builtin& function, const value& subject, const arguments& given) {
  return function.function(run, subject, bound_arguments(run, function.name, function.parameters, given));
}

value find_global(std::string_view name) {
  for (const builtin& one : globals) {
    if (one.name != name) continue;
    callable made;
    made.name = one.name;
    made.invoke = [&one](renderer& run, const arguments& given) { return call_builtin(run, one, value(), given); };
    return value(value::storage(std::make_shared<const callable>(std::move(made))));
  }
  return {};
}

}  // namespace troupe::models::jinja
