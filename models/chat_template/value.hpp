// The values a template works with: Python's, as far as chat templates see them. Knows no syntax and no budget.
// A value is immutable, so containers are trees, copies are cheap (shared_ptr<const T>), and threads may share them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "models/chat_template/provenance_text.hpp"

namespace troupe::models::jinja {

class value;
class renderer;
struct arguments;

/// A name or key that was not there; prints as nothing, and most uses are errors that quote `why`.
struct undefined {
  std::shared_ptr<const std::string> why;
};

enum class sequence_kind { list, tuple, range, dict_items, dict_keys, dict_values, generator };

struct sequence {
  std::vector<value> items;
  sequence_kind kind = sequence_kind::list;
  unsigned height = 1;
  // A generator can be walked once; only renders make generators, so no two threads share one.
  mutable std::size_t consumed = 0;
};

/// A dict in insertion order. Keys are strings, numbers, booleans or None.
struct mapping {
  std::vector<std::pair<value, value>> entries;
  std::vector<std::uint32_t> by_name;  // indices of the string keys, sorted by key
  unsigned height = 1;
  const value* find(const value& key) const;
  const value* find(std::string_view key) const;
};

/// A macro, a global function, or a method bound to its object.
struct callable {
  std::string name;
  std::function<value(renderer&, const arguments&)> invoke;
};

/// What `namespace()` makes: the one thing a template can change. Owned by the render, so that cycles cannot leak.
struct name_space {
  std::vector<std::pair<std::string, value>> attributes;
};

/// The variable `loop`.
struct loop_state {
  std::shared_ptr<const sequence> items;
  std::size_t index = 0;
};

class value {
public:
  using storage = std::variant<undefined, std::nullptr_t, bool, std::int64_t, double, std::shared_ptr<const text>,
                               std::shared_ptr<const sequence>, std::shared_ptr<const mapping>,
                               std::shared_ptr<const callable>, name_space*, std::shared_ptr<const loop_state>>;

  value() = default;  ///< undefined
  explicit value(storage state) : state_(std::move(state)) {}

  static value none() { return value(storage(nullptr)); }
  static value boolean(bool b) { return value(storage(b)); }
  static value integer(std::int64_t i) { return value(storage(i)); }
  static value real(double d) { return value(storage(d)); }
  static value string(text t) { return value(storage(std::make_shared<const text>(std::move(t)))); }
  static value trusted(std::string bytes) { return string(text(std::move(bytes), true)); }     ///< the template's own
  static value untrusted(std::string bytes) { return string(text(std::move(bytes), false)); }  ///< from a user
  static value list(std::vector<value> items, sequence_kind kind = sequence_kind::list);
  /// Of equal keys the last value wins, at the first one's place, as in Python.
  static value dict(std::vector<std::pair<value, value>> entries);
  static value undefined_because(std::string why);

  const storage& state() const noexcept { return state_; }
  template <class T>
  const T* as() const noexcept {
    return std::get_if<T>(&state_);
  }

  const text* str() const noexcept { return pointee<text>(); }
  const sequence* seq() const noexcept { return pointee<sequence>(); }
  const mapping* map() const noexcept { return pointee<mapping>(); }
  const callable* function() const noexcept { return pointee<callable>(); }
  bool is_undefined() const noexcept { return state_.index() == 0; }
  bool is_none() const noexcept { return state_.index() == 1; }
  /// An integer or a boolean, which counts as 0 or 1.
  std::optional<std::int64_t> as_integer() const noexcept;
  /// Any number as a double.
  std::optional<double> as_real() const noexcept;

  bool truthy() const noexcept;
  /// How many containers are nested in here, itself included; 0 for plain values.
  unsigned height() const noexcept;
  /// Python's name of the type, for messages ("str", "dict").
  std::string_view type_name() const noexcept;

private:
  template <class T>
  const T* pointee() const noexcept {
    const auto* held = std::get_if<std::shared_ptr<const T>>(&state_);
    return held ? held->get() : nullptr;
  }
  storage state_;
};

/// Attribute of a mapping or null; for reading contexts.
const value* find_entry(const value& object, std::string_view key);

}  // namespace troupe::models::jinja
