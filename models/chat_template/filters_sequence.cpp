// Filters over sequences and dicts: default, length, first, join, map, select, sort and so on.
#include <algorithm>

#include "models/chat_template/comparison.hpp"
#include "models/chat_template/filter_tables.hpp"
#include "models/chat_template/printing.hpp"
#include "models/chat_template/text_operations.hpp"

namespace troupe::models::jinja {
namespace {

using given = const bound_arguments&;

// "a.b.0" read step by step; `fallback` (may be null) stands in for what is missing.
value read_path(renderer& run, value from, std::string_view path, const value* fallback) {
  for (bool last = false; !last;) {
    const std::size_t dot = path.find('.');
    last = dot == std::string_view::npos;
    const std::string_view part = path.substr(0, dot);
    const bool digits =
        !part.empty() && part.size() < 10 && part.find_first_not_of("0123456789") == std::string_view::npos;
    from = run.item(from, digits ? value::integer(std::stoll(std::string(part))) : value::trusted(std::string(part)));
    if (fallback && from.is_undefined()) from = *fallback;
    if (!last) path.remove_prefix(dot + 1);
  }
  return from;
}

value read_attribute(renderer& run, const value& from, const value* attribute, const value* fallback = nullptr) {
  if (!attribute) return from;
  if (attribute->as_integer()) return run.item(from, *attribute);
  if (!attribute->str()) run.fail("an attribute is a string or a number");
  return read_path(run, from, attribute->str()->view(), fallback);
}

// Strings compare without case unless asked otherwise.
value sort_key(renderer& run, const value& from, const value* attribute, bool case_sensitive) {
  value key = read_attribute(run, from, attribute);
  return !case_sensitive && key.str() ? run.string(in_case(run, *key.str(), letter_case::lower)) : key;
}

value default_value(renderer&, const value& v, given arguments) {
  const bool replace = v.is_undefined() || (arguments.flag_or(1, false) && !v.truthy());
  if (!replace) return v;
  return arguments[0] ? *arguments[0] : value::trusted("");
}

value length(renderer& run, const value& v, given) {
  if (v.str()) {
    run.cost.step(1 + v.str()->size() / 64);
    return value::integer(static_cast<std::int64_t>(count_code_points(v.str()->view())));
  }
  if (v.map()) return value::integer(static_cast<std::int64_t>(v.map()->entries.size()));
  if (v.is_undefined()) return value::integer(0);
  if (!v.seq() || v.seq()->kind == sequence_kind::generator)
    run.fail(std::string("a value of type ") + std::string(v.type_name()) + " has no length");
  return value::integer(static_cast<std::int64_t>(v.seq()->items.size()));
}

value first(renderer& run, const value& v, given) {
  if (v.str())
    return v.str()->empty() ? value::undefined_because("the string is empty") : run.item(v, value::integer(0));
  if (v.seq() && v.seq()->kind == sequence_kind::generator) {
    if (v.seq()->consumed == v.seq()->items.size()) return value::undefined_because("the sequence is empty");
    return v.seq()->items[v.seq()->consumed++];
  }
  const auto items = run.elements(v);
  return items->items.empty() ? value::undefined_because("the sequence is empty") : items->items.front();
}

value last(renderer& run, const value& v, given) {
  if (v.str())
    return v.str()->empty() ? value::undefined_because("the string is empty") : run.item(v, value::integer(-1));
  if (v.seq() && v.seq()->kind == sequence_kind::generator) run.fail("a generator has no last element");
  const auto items = run.elements(v);
  return items->items.empty() ? value::undefined_because("the sequence is empty") : items->items.back();
}

value join(renderer& run, const value& v, given arguments) {
  const text separator = arguments[0] ? to_text(run.cost, *arguments[0]) : text();
  std::vector<value> parts = run.elements(v)->items;
  for (value& part : parts) part = read_attribute(run, part, arguments.some(1));
  return run.string(joined(run, separator, parts));
}

value to_list(renderer& run, const value& v, given) { return run.list(run.elements(v)->items); }

value items(renderer& run, const value& v, given) {
  if (v.is_undefined()) return run.list({}, sequence_kind::generator);
  if (!v.map()) run.fail(std::string("items needs a dict, not ") + std::string(v.type_name()));
  std::vector<value> pairs;
  for (const auto& [key, one] : v.map()->entries) pairs.push_back(run.list({key, one}, sequence_kind::tuple));
  return run.list(std::move(pairs), sequence_kind::generator);
}

value reverse(renderer& run, const value& v, given) {
  const bool generator = v.seq() && v.seq()->kind == sequence_kind::generator;
  std::vector<value> parts = run.elements(v)->items;
  std::reverse(parts.begin(), parts.end());
  if (!v.str()) return run.list(std::move(parts), generator ? sequence_kind::list : sequence_kind::generator);
  text made;
  for (const value& part : parts) made.append(*part.str());
  return run.string(std::move(made));
}

// `lenient`: equal keys need no order, as when Jinja's sort wraps each key in a list.
std::vector<value> sorted(renderer& run, const std::vector<value>& source, const std::vector<value>& keys,
                          bool descending, bool lenient) {
  std::vector<std::size_t> order(source.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    if (lenient && equal(run.cost, keys[a], keys[b])) return false;
    return descending ? less(run.cost, keys[b], keys[a]) : less(run.cost, keys[a], keys[b]);
  });
  std::vector<value> made;
  for (std::size_t i : order) made.push_back(source[i]);
  return made;
}

value sort(renderer& run, const value& v, given arguments) {
  const auto source = run.elements(v);
  std::vector<value> keys;
  for (const value& one : source->items)
    keys.push_back(sort_key(run, one, arguments.some(2), arguments.flag_or(1, false)));
  return run.list(sorted(run, source->items, keys, arguments.flag_or(0, false), true));
}

value dictsort(renderer& run, const value& v, given arguments) {
  if (!v.map()) run.fail(std::string("dictsort needs a dict, not ") + std::string(v.type_name()));
  const std::string_view by = arguments[1] ? arguments.required_text(1).view() : "key";
  if (by != "key" && by != "value") run.fail("dictsort sorts by 'key' or 'value'");
  std::vector<value> pairs, keys;
  for (const auto& [key, one] : v.map()->entries) {
    pairs.push_back(run.list({key, one}, sequence_kind::tuple));
    keys.push_back(sort_key(run, by == "key" ? key : one, nullptr, arguments.flag_or(0, false)));
  }
  return run.list(sorted(run, pairs, keys, arguments.flag_or(2, false), false));
}

value unique(renderer& run, const value& v, given arguments) {
  std::vector<value> kept, seen;
  for (const auto walked = run.elements(v); const value& one : walked->items) {
    value key = sort_key(run, one, arguments.some(1), arguments.flag_or(0, false));
    if (key.map() || (key.seq() && key.seq()->kind == sequence_kind::list))
      run.fail(std::string("unique cannot compare a ") + std::string(key.type_name()));
    if (std::any_of(seen.begin(), seen.end(), [&](const value& known) { return equal(run.cost, known, key); }))
      continue;
    seen.push_back(std::move(key));
    kept.push_back(one);
  }
  return run.list(std::move(kept), sequence_kind::generator);
}

template <bool largest>
value extreme(renderer& run, const value& v, given arguments) {
  const auto source = run.elements(v);
  if (source->items.empty()) return value::undefined_because("the sequence is empty");
  std::size_t best = 0;
  value best_key = sort_key(run, source->items[0], arguments.some(1), arguments.flag_or(0, false));
  for (std::size_t i = 1; i < source->items.size(); ++i) {
    value key = sort_key(run, source->items[i], arguments.some(1), arguments.flag_or(0, false));
    if (largest ? less(run.cost, best_key, key) : less(run.cost, key, best_key)) {
      best = i;
      best_key = std::move(key);
    }
  }
  return source->items[best];
}

value sum(renderer& run, const value& v, given arguments) {
  value total = arguments[1] ? *arguments[1] : value::integer(0);
  for (const auto walked = run.elements(v); const value& one : walked->items)
    total = run.binary(op::add, total, read_attribute(run, one, arguments.some(0)));
  return total;
}

const value* named(const arguments& all, std::string_view name) {
  for (const auto& [known, one] : all.named)
    if (known == name) return &one;
  return nullptr;
}

// What follows the name of a filter or test in the arguments of map and select.
arguments rest_of(const arguments& all, std::size_t from) {
  arguments rest = all;
  rest.positional.erase(rest.positional.begin(), rest.positional.begin() + static_cast<std::ptrdiff_t>(from));
  return rest;
}

std::string_view function_name(renderer& run, const arguments& all, std::size_t index) {
  if (index >= all.positional.size() || !all.positional[index].str())
    run.fail("the name of a filter or test is missing");
  return all.positional[index].str()->view();
}

value map(renderer& run, const value& v, given arguments) {
  const auto& all = arguments.all();
  std::vector<value> made;
  if (!v.truthy())
    return run.list({}, sequence_kind::generator);  // Jinja asks this first, so that None maps to nothing
  const value* attribute = named(all, "attribute");
  if (all.positional.empty() && attribute) {
    const value* fallback = named(all, "default");
    if (all.named.size() > (fallback ? 2u : 1u)) run.fail("map got an argument that it does not know");
    for (const auto walked = run.elements(v); const value& one : walked->items)
      made.push_back(read_attribute(run, one, attribute, fallback && !fallback->is_none() ? fallback : nullptr));
  } else {
    const std::string_view name = function_name(run, all, 0);
    const builtin* filter = find_filter(name);
    const auto rest = rest_of(all, 1);
    for (const auto walked = run.elements(v); const value& one : walked->items)
      made.push_back(run.apply(filter, "filter", name, one, rest));
  }
  return run.list(std::move(made), sequence_kind::generator);
}

// select, reject (by_attribute false) and selectattr, rejectattr; without a test, truth decides.
template <bool by_attribute, bool wanted>
value select(renderer& run, const value& v, given arguments) {
  const auto& all = arguments.all();
  const std::size_t skip = by_attribute ? 1 : 0;
  if (all.positional.size() < skip) run.fail("the attribute to test is missing");
  const bool tested = all.positional.size() > skip;
  const std::string_view name = tested ? function_name(run, all, skip) : std::string_view();
  const auto rest = tested ? rest_of(all, skip + 1) : jinja::arguments{};
  std::vector<value> kept;
  if (!v.truthy()) return run.list({}, sequence_kind::generator);
  for (const auto walked = run.elements(v); const value& one : walked->items) {
    const value subject = by_attribute ? read_attribute(run, one, &all.positional[0]) : one;
    const bool holds = tested ? run.apply(find_test(name), "test", name, subject, rest).truthy() : subject.truthy();
    if (holds == wanted) kept.push_back(one);
  }
  return run.list(std::move(kept), sequence_kind::generator);
}

constexpr builtin filters[] = {{"default", "default_value boolean", default_value},
                               {"d", "default_value boolean", default_value},
                               {"length", "", length},
                               {"count", "", length},
                               {"first", "", first},
                               {"last", "", last},
                               {"join", "d attribute", join},
                               {"list", "", to_list},
                               {"items", "", items},
                               {"reverse", "", reverse},
                               {"sort", "reverse case_sensitive attribute", sort},
                               {"dictsort", "case_sensitive by reverse", dictsort},
                               {"unique", "case_sensitive attribute", unique},
                               {"min", "case_sensitive attribute", extreme<false>},
                               {"max", "case_sensitive attribute", extreme<true>},
                               {"sum", "attribute start", sum},
                               {"map", "*", map},
                               {"select", "*", select<false, true>},
                               {"reject", "*", select<false, false>},
                               {"selectattr", "*", select<true, true>},
                               {"rejectattr", "*", select<true, false>}};

}  // namespace

const builtin* find_filter(std::string_view name) {
  const auto* found =
      std::find_if(std::begin(filters), std::end(filters), [&](const builtin& one) { return one.name == name; });
  return found == std::end(filters) ? find_text_filter(name) : found;
}

}  // namespace troupe::models::jinja
