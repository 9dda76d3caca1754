// What follows an operand: subscripts, slices, calls, filters and tests.
#include "models/chat_template/builtins.hpp"
#include "models/chat_template/parser.hpp"

namespace troupe::models::jinja {

parser::node parser::parse_postfix(node subject) {
  for (;;) {
    if (on_symbol(".") || on_symbol("[")) {
      subject = parse_subscript(std::move(subject));
    } else if (on_symbol("(")) {
      std::vector<expression_ptr> callee;
      callee.push_back(std::move(subject));
      subject = make(expression_kind::call, std::move(callee));
      parse_arguments(*subject);
      subject = checked(std::move(subject));
    } else {
      return subject;
    }
  }
}

parser::node parser::parse_subscript(node subject) {
  std::vector<expression_ptr> parts;
  parts.push_back(std::move(subject));
  if (take_symbol(".")) {
    if (look().kind == token_kind::integer) {
      parts.push_back(parse_literal_or_name());
      return make(expression_kind::item, std::move(parts));
    }
    node made = make(expression_kind::attribute, std::move(parts));
    made->name = expect_name();
    return made;
  }
  expect_symbol("[");
  if (on_symbol("]")) fail("expected a subscript, found ']'");
  parts.push_back(on_symbol(":") ? nullptr : parse_tuple());
  if (!on_symbol(":")) {
    expect_symbol("]");
    return make(expression_kind::item, std::move(parts));
  }
  while (take_symbol(":")) parts.push_back(on_symbol(":") || on_symbol("]") ? nullptr : parse_expression());
  expect_symbol("]");
  if (parts.size() > 4) fail("a slice has too many parts");
  parts.resize(4);
  return make(expression_kind::slice, std::move(parts));
}

// A set block takes filters only.
parser::node parser::parse_filters_and_tests(node subject, bool statement_filter) {
  for (;;) {
    if (take_symbol("|")) subject = parse_filter(std::move(subject));
    else if (!statement_filter && take_name("is")) subject = parse_test(std::move(subject));
    else if (!statement_filter && on_symbol("(")) subject = parse_postfix(std::move(subject));
    else return subject;
  }
}

parser::node parser::parse_filter(node subject) {
  std::vector<expression_ptr> parts;
  parts.push_back(std::move(subject));
  node made = make(expression_kind::filter, std::move(parts));
  made->line = look().line;
  made->name = expect_name();
  made->function = find_filter(made->name);
  if (on_symbol("(")) parse_arguments(*made);
  return checked(std::move(made));
}

parser::node parser::parse_test(node subject) {
  const bool negated = take_name("not");
  std::vector<expression_ptr> parts;
  parts.push_back(std::move(subject));
  node made = make(expression_kind::test, std::move(parts));
  made->name = expect_name();
  made->function = find_test(made->name);
  const token& next = look();
  const bool literal =
      next.kind == token_kind::string || next.kind == token_kind::integer || next.kind == token_kind::real;
  const bool name = next.kind == token_kind::name && !on_name("else") && !on_name("or") && !on_name("and");
  if (on_symbol("(")) {
    parse_arguments(*made);
  } else if (literal || name || on_symbol("[") || on_symbol("{")) {
    if (on_name("is")) fail("tests cannot be chained with 'is'");
    made->operands.push_back(parse_postfix(parse_primary()));
  }
  made = checked(std::move(made));
  if (!negated) return made;
  std::vector<expression_ptr> operand;
  operand.push_back(std::move(made));
  return make(expression_kind::logic_not, std::move(operand));
}

void parser::parse_arguments(expression& call) {
  expect_symbol("(");
  while (!on_symbol(")")) {
    if (call.operands.size() + call.named.size() > 1) expect_symbol(",");
    if (on_symbol(")")) break;
    if (look().kind == token_kind::name && on_symbol("=", 1)) {
      std::string name = take().text;
      take();
      call.named.emplace_back(std::move(name), parse_expression());
    } else {
      if (!call.named.empty()) fail("a positional argument follows a named one");
      call.operands.push_back(parse_expression());
    }
  }
  expect_symbol(")");
}

}  // namespace troupe::models::jinja
