// Expressions: names, literals, subscripts, calls. Recursion is bounded by the parser's height limit and by the budget.
#include <algorithm>

#include "models/chat_template/code_points.hpp"
#include "models/chat_template/comparison.hpp"
#include "models/chat_template/printing.hpp"
#include "models/chat_template/renderer.hpp"

namespace troupe::models::jinja {
value renderer::evaluate(const expression& node) {
  const depth_guard guard(cost);
  cost.at(node.line);
  cost.step();
  switch (node.kind) {
    case expression_kind::constant: return node.literal;
    case expression_kind::name: return lookup(node.name);
    case expression_kind::logic_not: return value::boolean(!evaluate(*node.operands[0]).truthy());
    case expression_kind::logic_and: {
      value left = evaluate(*node.operands[0]);
      return left.truthy() ? evaluate(*node.operands[1]) : left;
    }
    case expression_kind::logic_or: {
      value left = evaluate(*node.operands[0]);
      return left.truthy() ? left : evaluate(*node.operands[1]);
    }
    case expression_kind::conditional:
      if (evaluate(*node.operands[1]).truthy()) return evaluate(*node.operands[0]);
      return node.operands[2] ? evaluate(*node.operands[2])
                              : value::undefined_because("the condition was false and there is no else");
    default: return evaluate_composite(node);
  }
}

value renderer::evaluate_composite(const expression& node) {
  switch (node.kind) {
    case expression_kind::list: return list(evaluate_all(node.operands, 0));
    case expression_kind::tuple: return list(evaluate_all(node.operands, 0), sequence_kind::tuple);
    case expression_kind::dict: return evaluate_dict(node);
    case expression_kind::concat: return evaluate_concat(node);
    case expression_kind::compare: return evaluate_compare(node);
    case expression_kind::slice: return evaluate_slice(node);
    case expression_kind::call:
    case expression_kind::filter:
    case expression_kind::test: return evaluate_call(node);
    default: break;
  }
  const value first = evaluate(*node.operands[0]);
  if (node.kind == expression_kind::attribute) {
    cost.at(node.line);
    return attribute(first, node.name);
  }
  if (node.kind == expression_kind::unary) return unary(node.operation, first);
  const value second = evaluate(*node.operands[1]);
  cost.at(node.line);
  return node.kind == expression_kind::item ? item(first, second) : binary(node.operation, first, second);
}

std::vector<value> renderer::evaluate_all(const std::vector<expression_ptr>& nodes, std::size_t from) {
  std::vector<value> made;
  for (std::size_t i = from; i < nodes.size(); ++i) made.push_back(evaluate(*nodes[i]));
  return made;
}

arguments renderer::evaluate_arguments(const expression& node) {
  arguments given{evaluate_all(node.operands, 1), {}};
  for (const auto& [name, one] : node.named) {
    for (const auto& known : given.named)
      if (known.first == name) fail(std::string("argument '") + name + "' is given twice");
    given.named.emplace_back(name, evaluate(*one));
  }
  return given;
}

value renderer::evaluate_call(const expression& node) {
  const value subject = evaluate(*node.operands[0]);
  const arguments given = evaluate_arguments(node);
  cost.at(node.line);
  if (node.kind == expression_kind::call) return call(subject, given);
  return apply(node.function, node.kind == expression_kind::filter ? "filter" : "test", node.name, subject, given);
}

value renderer::call(const value& callee, const arguments& given) {
  const depth_guard guard(cost);
  if (callee.is_undefined()) fail_undefined(callee);
  if (!callee.function()) fail(std::string("a value of type ") + std::string(callee.type_name()) + " cannot be called");
  const auto kept = *callee.as<std::shared_ptr<const callable>>();  // the call may replace the name that holds it
  return kept->invoke(*this, given);
}

value renderer::apply(const builtin* function, std::string_view kind, std::string_view name, const value& subject,
                      const arguments& given) {
  if (!function) fail(std::string("there is no ") + std::string(kind) + " '" + std::string(name) + "'");
  const depth_guard guard(cost);
  return call_builtin(*this, *function, subject, given);
}

value renderer::evaluate_dict(const expression& node) {
  std::vector<std::pair<value, value>> entries;
  for (std::size_t i = 0; i + 1 < node.operands.size(); i += 2) {
    value key = evaluate(*node.operands[i]);
    if (!key.str() && !key.as_real() && !key.is_none())
      fail(std::string("a ") + std::string(key.type_name()) + " cannot be a key");
    entries.emplace_back(std::move(key), evaluate(*node.operands[i + 1]));
  }
  return dict(std::move(entries));
}

value renderer::evaluate_concat(const expression& node) {
  text joined;
  for (const value& part : evaluate_all(node.operands, 0)) append_str(cost, part, joined);
  return string(std::move(joined));
}

value renderer::evaluate_compare(const expression& node) {
  value left = evaluate(*node.operands[0]);
  for (std::size_t i = 0; i < node.operations.size(); ++i) {
    value right = evaluate(*node.operands[i + 1]);
    cost.at(node.line);
    if (!compare(node.operations[i], left, right)) return value::boolean(false);
    left = std::move(right);
  }
  return value::boolean(true);
}

void renderer::fail_undefined(const value& missing) const {
  const auto* held = missing.as<undefined>();
  fail(held && held->why ? *held->why : "a value is undefined");
}

value renderer::list(std::vector<value> items, sequence_kind kind) {
  cost.step(items.size());
  value made = value::list(std::move(items), kind);
  if (made.height() > max_value_height) fail("a value nests too deeply");
  return made;
}

value renderer::dict(std::vector<std::pair<value, value>> entries) {
  cost.step(entries.size());
  value made = value::dict(std::move(entries));
  if (made.height() > max_value_height) fail("a value nests too deeply");
  return made;
}

value renderer::string(text made) {
  cost.text_bytes(made.size());
  return value::string(std::move(made));
}

name_space& renderer::make_namespace() {
  namespaces_.push_back(std::make_unique<name_space>());
  return *namespaces_.back();
}

}  // namespace troupe::models::jinja
