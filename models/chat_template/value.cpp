// Building, truth and lookup of values.
#include "models/chat_template/value.hpp"

#include <algorithm>

namespace troupe::models::jinja {
namespace {

bool same_key(const value& a, const value& b) {
  if (a.str() || b.str()) return a.str() && b.str() && a.str()->view() == b.str()->view();
  if (a.as_integer() && b.as_integer()) return *a.as_integer() == *b.as_integer();
  if (a.as_real() && b.as_real()) return *a.as_real() == *b.as_real();
  return a.is_none() && b.is_none();
}

std::string_view key_text(const mapping& map, std::uint32_t index) { return map.entries[index].first.str()->view(); }

// Sorts the string keys; of equal ones the first keeps its place and takes the last one's value.
void index_names(mapping& map) {
  for (std::uint32_t i = 0; i < map.entries.size(); ++i)
    if (map.entries[i].first.str()) map.by_name.push_back(i);
  std::stable_sort(map.by_name.begin(), map.by_name.end(),
                   [&](auto a, auto b) { return key_text(map, a) < key_text(map, b); });
}

// Entries that an earlier equal key replaces are marked; string keys by the index, others by search (they come only
// from dict literals, which the source's size bounds).
std::vector<bool> merge_equal_keys(mapping& map) {
  std::vector<bool> dropped(map.entries.size(), false);
  for (std::size_t i = 0; i < map.by_name.size();) {
    std::size_t next = i + 1;
    while (next < map.by_name.size() && key_text(map, map.by_name[next]) == key_text(map, map.by_name[i])) {
      map.entries[map.by_name[i]].second = map.entries[map.by_name[next]].second;
      dropped[map.by_name[next++]] = true;
    }
    i = next;
  }
  if (map.by_name.size() == map.entries.size()) return dropped;
  for (std::size_t i = 0; i < map.entries.size(); ++i)
    for (std::size_t j = i + 1; !map.entries[i].first.str() && !dropped[i] && j < map.entries.size(); ++j)
      if (!map.entries[j].first.str() && same_key(map.entries[i].first, map.entries[j].first)) {
        map.entries[i].second = map.entries[j].second;
        dropped[j] = true;
      }
  return dropped;
}

}  // namespace

const value* mapping::find(std::string_view key) const {
  const auto place = std::lower_bound(by_name.begin(), by_name.end(), key,
                                      [&](std::uint32_t i, std::string_view k) { return key_text(*this, i) < k; });
  return place != by_name.end() && key_text(*this, *place) == key ? &entries[*place].second : nullptr;
}

const value* mapping::find(const value& key) const {
  if (key.str()) return find(key.str()->view());
  if (by_name.size() == entries.size()) return nullptr;
  for (const auto& [name, item] : entries)
    if (!name.str() && same_key(name, key)) return &item;
  return nullptr;
}

value value::list(std::vector<value> items, sequence_kind kind) {
  auto made = std::make_shared<sequence>();
  for (const value& item : items) made->height = std::max(made->height, item.height() + 1);
  made->items = std::move(items);
  made->kind = kind;
  return value(storage(std::shared_ptr<const sequence>(std::move(made))));
}

value value::dict(std::vector<std::pair<value, value>> entries) {
  auto made = std::make_shared<mapping>();
  made->entries = std::move(entries);
  index_names(*made);
  const std::vector<bool> dropped = merge_equal_keys(*made);
  if (std::find(dropped.begin(), dropped.end(), true) != dropped.end()) {
    std::vector<std::pair<value, value>> kept;
    for (std::size_t i = 0; i < dropped.size(); ++i)
      if (!dropped[i]) kept.push_back(std::move(made->entries[i]));
    made->entries = std::move(kept);
    made->by_name.clear();
    index_names(*made);
  }
  for (const auto& entry : made->entries) made->height = std::max(made->height, entry.second.height() + 1);
  return value(storage(std::shared_ptr<const mapping>(std::move(made))));
}

value value::undefined_because(std::string why) {
  return value(storage(undefined{std::make_shared<const std::string>(std::move(why))}));
}

std::optional<std::int64_t> value::as_integer() const noexcept {
  if (const auto* i = as<std::int64_t>()) return *i;
  if (const auto* b = as<bool>()) return *b ? 1 : 0;
  return std::nullopt;
}

std::optional<double> value::as_real() const noexcept {
  if (const auto* d = as<double>()) return *d;
  if (const auto i = as_integer()) return static_cast<double>(*i);
  return std::nullopt;
}

bool value::truthy() const noexcept {
  if (const auto number = as_real()) return *number != 0;
  if (str()) return !str()->empty();
  if (seq()) return seq()->kind == sequence_kind::generator || !seq()->items.empty();
  if (map()) return !map()->entries.empty();
  return !is_undefined() && !is_none();
}

unsigned value::height() const noexcept {
  if (seq()) return seq()->height;
  return map() ? map()->height : 0;
}

std::string_view value::type_name() const noexcept {
  constexpr std::string_view names[] = {"Undefined", "NoneType", "bool",     "int",       "float",      "str",
                                        "list",      "dict",     "function", "Namespace", "LoopContext"};
  if (seq()) {
    constexpr std::string_view kinds[] = {"list",      "tuple",       "range",    "dict_items",
                                          "dict_keys", "dict_values", "generator"};
    return kinds[static_cast<std::size_t>(seq()->kind)];
  }
  return names[state_.index()];
}

const value* find_entry(const value& object, std::string_view key) {
  return object.map() ? object.map()->find(key) : nullptr;
}

}  // namespace troupe::models::jinja
