// Walks a parsed template with a context and writes text. Sees no file, clock or network: time is an argument.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/chat_template/builtins.hpp"
#include "models/chat_template/meter.hpp"
#include "models/chat_template/syntax.hpp"
#include "models/chat_template/value.hpp"

namespace troupe::models::jinja {

enum class flow { normal, break_, continue_ };

/// Names set at one level; for bodies and macro calls open a new one.
struct scope {
  std::shared_ptr<scope> outer;
  std::vector<std::pair<std::string_view, value>> names;
  value* find(std::string_view name);
};

/// One render: used once, by one thread. Throws template_failure.
class renderer {
public:
  static constexpr unsigned max_value_height = 100;

  renderer(const mapping& context, std::chrono::system_clock::time_point now, const template_budget& budget)
      : cost(budget), now_(now), context_(context), scope_(std::make_shared<scope>()) {}
  text render(const statements& body);

  // What built-ins need.
  meter cost;
  std::chrono::system_clock::time_point now() const { return now_; }
  [[noreturn]] void fail(std::string text) const { cost.fail(std::move(text)); }
  [[noreturn]] void fail_undefined(const value& missing) const;
  value call(const value& callee, const arguments& given);
  value apply(const builtin* function, std::string_view kind, std::string_view name, const value& subject,
              const arguments& given);
  /// The elements that a loop over `walked` sees; a generator is used up by it.
  std::shared_ptr<const sequence> elements(const value& walked);
  value list(std::vector<value> items, sequence_kind kind = sequence_kind::list);
  value dict(std::vector<std::pair<value, value>> entries);
  value string(text made);
  value attribute(const value& object, std::string_view name);  ///< object.name
  value item(const value& object, const value& key);            ///< object[key]
  name_space& make_namespace();

  // arithmetic.cpp
  value binary(op operation, const value& a, const value& b);
  value unary(op operation, const value& a);
  bool compare(op operation, const value& a, const value& b);

private:
  // renderer.cpp: statements
  flow execute(const statements& body);
  flow execute(const statement& one);
  flow execute_for(const statement& loop);
  flow execute_otherwise(const statement& loop);
  flow execute_if(const statement& choice);
  void execute_set(const statement& set);
  std::shared_ptr<const sequence> filtered(const statement& loop, std::shared_ptr<const sequence> items);
  void assign(const assignment_target& target, const value& assigned);
  void set_name(std::string_view name, value assigned);
  value define_macro(const statement& macro);
  value call_macro(const statement& macro, const std::shared_ptr<scope>& home, const arguments& given);
  text captured(const statements& body);
  void print(const text& part);
  value lookup(std::string_view name);

  // evaluate.cpp and subscript.cpp: expressions
  value evaluate(const expression& node);
  value evaluate_composite(const expression& node);
  value evaluate_dict(const expression& node);
  value evaluate_concat(const expression& node);
  value evaluate_compare(const expression& node);
  value evaluate_slice(const expression& node);
  value slice_text(const text& source, const std::int64_t* start, const std::int64_t* stop, std::int64_t step);
  value slice_list(const sequence& source, const std::int64_t* start, const std::int64_t* stop, std::int64_t step);
  value evaluate_call(const expression& node);
  std::vector<value> evaluate_all(const std::vector<expression_ptr>& nodes, std::size_t from);
  arguments evaluate_arguments(const expression& node);
  value missing(const value& object, std::string_view name) const;
  value bound_method(const value& object, const builtin& method);

  std::chrono::system_clock::time_point now_;
  const mapping& context_;
  std::shared_ptr<scope> scope_;
  text* out_ = nullptr;
  bool printing_output_ = true;  // false inside macros and set blocks
  std::vector<std::unique_ptr<name_space>> namespaces_;
};

}  // namespace troupe::models::jinja
