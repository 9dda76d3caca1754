// The tables of filters, tests, methods and global functions, and how their arguments arrive.
#pragma once

#include <cstddef>
#include <string_view>
#include <utility>
#include <vector>

#include "models/chat_template/value.hpp"

namespace troupe::models::jinja {

struct arguments {
  std::vector<value> positional;
  std::vector<std::pair<std::string_view, value>> named;
};

/// Arguments matched to parameters; those not given are null.
class bound_arguments {
public:
  /// `parameters` are names with one space between; surplus or unknown arguments end the render.
  bound_arguments(renderer& run, std::string_view function, std::string_view parameters, const arguments& given);

  const value* operator[](std::size_t index) const { return given_[index]; }
  /// None counts as not given.
  const value* some(std::size_t index) const;
  const value& required(std::size_t index) const;
  const text& required_text(std::size_t index) const;
  std::int64_t integer_or(std::size_t index, std::int64_t fallback) const;
  bool flag_or(std::size_t index, bool fallback) const;
  /// The untouched list, for those that pass arguments on.
  const arguments& all() const { return all_; }

private:
  renderer& run_;
  std::string_view function_;
  const arguments& all_;
  std::vector<const value*> given_;
};

/// A filter, test or method: works on `subject`. Parameters "*" take any arguments.
struct builtin {
  std::string_view name;
  std::string_view parameters;
  value (*function)(renderer& run, const value& subject, const bound_arguments& arguments);
};

const builtin* find_filter(std::string_view name);
const builtin* find_test(std::string_view name);
/// The method of an object of this type, or null.
const builtin* find_method(const value& object, std::string_view name);
/// range, dict, namespace, raise_exception, strftime_now; undefined for other names.
value find_global(std::string_view name);

value call_builtin(renderer& run, const builtin& function, const value& subject, const arguments& given);

}  // namespace troupe::models::jinja
