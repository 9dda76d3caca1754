// Containers compare element by element; every element costs a step, since equal parts may be shared many times.
#include "models/chat_template/comparison.hpp"

#include <algorithm>

namespace troupe::models::jinja {
namespace {

bool equal_numbers(const value& a, const value& b) {
  if (a.as_integer() && b.as_integer()) return *a.as_integer() == *b.as_integer();
  return *a.as_real() == *b.as_real();
}

bool equal_sequences(meter& cost, const sequence& a, const sequence& b) {
  if (&a == &b) return true;
  if (a.kind != b.kind || a.items.size() != b.items.size() || a.kind == sequence_kind::generator) return false;
  return std::equal(a.items.begin(), a.items.end(), b.items.begin(),
                    [&](const value& x, const value& y) { return equal(cost, x, y); });
}

bool equal_mappings(meter& cost, const mapping& a, const mapping& b) {
  if (a.entries.size() != b.entries.size()) return false;
  return std::all_of(a.entries.begin(), a.entries.end(), [&](const auto& entry) {
    const value* other = b.find(entry.first);
    return other && equal(cost, entry.second, *other);
  });
}

bool less_sequences(meter& cost, const sequence& a, const sequence& b) {
  for (std::size_t i = 0; i < a.items.size() && i < b.items.size(); ++i)
    if (!equal(cost, a.items[i], b.items[i])) return less(cost, a.items[i], b.items[i]);
  return a.items.size() < b.items.size();
}

bool hashable(const value& key) {
  return key.str() || key.as_real() || key.is_none() || key.is_undefined() ||
         (key.seq() && key.seq()->kind == sequence_kind::tuple);
}

}  // namespace

bool equal(meter& cost, const value& a, const value& b) {
  const depth_guard guard(cost);
  cost.step();
  if (a.str() && b.str()) {
    cost.step(std::min(a.str()->size(), b.str()->size()) / 64);
    return a.str()->view() == b.str()->view();
  }
  if (a.as_real() && b.as_real()) return equal_numbers(a, b);
  if (a.seq() && b.seq()) return equal_sequences(cost, *a.seq(), *b.seq());
  if (a.map() && b.map()) return equal_mappings(cost, *a.map(), *b.map());
  if (a.state().index() != b.state().index()) return false;
  if (a.is_undefined() || a.is_none()) return true;
  if (a.function()) return a.function() == b.function();
  const auto* space = a.as<name_space*>();
  return space && *space == *b.as<name_space*>();
}

bool less(meter& cost, const value& a, const value& b) {
  const depth_guard guard(cost);
  cost.step();
  if (a.str() && b.str()) {
    cost.step(std::min(a.str()->size(), b.str()->size()) / 64);
    return a.str()->view() < b.str()->view();
  }
  if (a.as_integer() && b.as_integer()) return *a.as_integer() < *b.as_integer();
  if (a.as_real() && b.as_real()) return *a.as_real() < *b.as_real();
  if (a.seq() && b.seq() && a.seq()->kind == b.seq()->kind && a.seq()->kind <= sequence_kind::tuple)
    return less_sequences(cost, *a.seq(), *b.seq());
  for (const value* side : {&a, &b})
    if (const auto* missing = side->as<undefined>()) cost.fail(missing->why ? *missing->why : "a value is undefined");
  cost.fail(std::string("cannot order ") + std::string(a.type_name()) + " and " + std::string(b.type_name()));
}

bool contains(meter& cost, const value& container, const value& item) {
  if (container.str()) {
    if (!item.str()) cost.fail(std::string("'in <string>' needs a string, not ") + std::string(item.type_name()));
    cost.step(container.str()->size() / 64);
    return container.str()->view().find(item.str()->view()) != std::string_view::npos;
  }
  if (container.map()) {
    if (!hashable(item)) cost.fail(std::string("a ") + std::string(item.type_name()) + " cannot be a key");
    return container.map()->find(item) != nullptr;
  }
  if (const sequence* list = container.seq()) {
    const bool walks = list->kind == sequence_kind::generator;
    for (std::size_t i = walks ? list->consumed : 0; i < list->items.size(); ++i) {
      if (walks) list->consumed = i + 1;
      if (equal(cost, list->items[i], item)) return true;
    }
    return false;
  }
  if (container.is_undefined()) return false;
  cost.fail(std::string("cannot look inside a value of type ") + std::string(container.type_name()));
}

}  // namespace troupe::models::jinja
