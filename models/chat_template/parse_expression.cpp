// Expressions, in Jinja's precedence: if-else, or, and, not, comparison, + -, ~, * / // %, **, unary, postfix, filters.
#include <algorithm>
#include <optional>

#include "models/chat_template/meter.hpp"
#include "models/chat_template/parser.hpp"

namespace troupe::models::jinja {
namespace {

std::vector<expression_ptr> pair_of(expression_ptr a, expression_ptr b) {
  std::vector<expression_ptr> both;
  both.push_back(std::move(a));
  both.push_back(std::move(b));
  return both;
}

std::optional<op> comparison(const token& t) {
  if (t.kind != token_kind::symbol) return std::nullopt;
  constexpr std::pair<std::string_view, op> known[] = {{"==", op::equal},  {"!=", op::not_equal},
                                                       {"<", op::less},    {"<=", op::less_equal},
                                                       {">", op::greater}, {">=", op::greater_equal}};
  for (const auto& [symbol, operation] : known)
    if (t.text == symbol) return operation;
  return std::nullopt;
}

}  // namespace

parser::node parser::make(expression_kind kind, std::vector<expression_ptr> operands) const {
  auto made = std::make_unique<expression>();
  made->kind = kind;
  made->line = look().line;
  made->operands = std::move(operands);
  return checked(std::move(made));
}

// Sets the height; a tree too tall to walk is refused. The line is that of the first operand.
parser::node parser::checked(node made) const {
  const auto add = [&](const expression_ptr& part) {
    if (part) made->height = std::max(made->height, part->height + 1);
  };
  for (const auto& part : made->operands) add(part);
  for (const auto& part : made->named) add(part.second);
  if (!made->operands.empty() && made->operands[0]) made->line = made->operands[0]->line;
  if (made->height > max_height) fail("an expression nests too deeply");
  return made;
}

parser::node parser::parse_tuple(bool with_conditional) {
  node first = parse_expression(with_conditional);
  if (!on_symbol(",")) return first;
  std::vector<expression_ptr> items;
  items.push_back(std::move(first));
  while (take_symbol(",")) {
    if (look().kind == token_kind::print_end || look().kind == token_kind::block_end || on_symbol(")")) break;
    items.push_back(parse_expression(with_conditional));
  }
  return make(expression_kind::tuple, std::move(items));
}

parser::node parser::parse_expression(bool with_conditional) {
  const nested guard(*this);
  node made = parse_or();
  while (with_conditional && take_name("if")) {
    auto parts = pair_of(std::move(made), parse_or());
    parts.push_back(take_name("else") ? parse_expression() : nullptr);
    made = make(expression_kind::conditional, std::move(parts));
  }
  return made;
}

parser::node parser::parse_or() {
  node left = parse_and();
  while (take_name("or")) left = make(expression_kind::logic_or, pair_of(std::move(left), parse_and()));
  return left;
}

parser::node parser::parse_and() {
  node left = parse_not();
  while (take_name("and")) left = make(expression_kind::logic_and, pair_of(std::move(left), parse_not()));
  return left;
}

parser::node parser::parse_not() {
  if (!take_name("not")) return parse_compare();
  const nested guard(*this);
  std::vector<expression_ptr> operand;
  operand.push_back(parse_not());
  return make(expression_kind::logic_not, std::move(operand));
}

parser::node parser::parse_compare() {
  std::vector<expression_ptr> operands;
  std::vector<op> operations;
  operands.push_back(parse_sum());
  for (;;) {
    if (const auto operation = comparison(look())) {
      take();
      operations.push_back(*operation);
    } else if (take_name("in")) {
      operations.push_back(op::in);
    } else if (on_name("not") && on_name("in", 1)) {
      take();
      take();
      operations.push_back(op::not_in);
    } else {
      break;
    }
    operands.push_back(parse_sum());
  }
  if (operations.empty()) return std::move(operands[0]);
  node made = make(expression_kind::compare, std::move(operands));
  made->operations = std::move(operations);
  return made;
}

parser::node parser::parse_sum() {
  node left = parse_concat();
  while (on_symbol("+") || on_symbol("-")) {
    const op operation = take().text == "+" ? op::add : op::subtract;
    left = make(expression_kind::binary, pair_of(std::move(left), parse_concat()));
    left->operation = operation;
  }
  return left;
}

parser::node parser::parse_concat() {
  node first = parse_product();
  if (!on_symbol("~")) return first;
  std::vector<expression_ptr> parts;
  parts.push_back(std::move(first));
  while (take_symbol("~")) parts.push_back(parse_product());
  return make(expression_kind::concat, std::move(parts));
}

parser::node parser::parse_product() {
  node left = parse_power();
  for (;;) {
    op operation = op::multiply;
    if (on_symbol("/")) operation = op::divide;
    else if (on_symbol("//")) operation = op::floor_divide;
    else if (on_symbol("%")) operation = op::modulo;
    else if (!on_symbol("*")) return left;
    take();
    left = make(expression_kind::binary, pair_of(std::move(left), parse_power()));
    left->operation = operation;
  }
}

parser::node parser::parse_power() {
  node left = parse_unary();
  while (take_symbol("**")) {
    left = make(expression_kind::binary, pair_of(std::move(left), parse_unary()));
    left->operation = op::power;
  }
  return left;
}

parser::node parser::parse_unary(bool with_filters) {
  const nested guard(*this);
  node made;
  if (on_symbol("-") || on_symbol("+")) {
    const op operation = take().text == "-" ? op::negate : op::plus;
    std::vector<expression_ptr> operand;
    operand.push_back(parse_unary(false));
    made = make(expression_kind::unary, std::move(operand));
    made->operation = operation;
  } else {
    made = parse_primary();
  }
  made = parse_postfix(std::move(made));
  return with_filters ? parse_filters_and_tests(std::move(made)) : std::move(made);
}

parser::node parser::parse_primary() {
  if (on_symbol("(") || on_symbol("[")) return parse_brackets();
  if (on_symbol("{")) return parse_dict();
  return parse_literal_or_name();
}

parser::node parser::parse_literal_or_name() {
  node made = make(expression_kind::constant);
  switch (look().kind) {
    case token_kind::integer: made->literal = value::integer(take().integer); return made;
    case token_kind::real: made->literal = value::real(take().real); return made;
    case token_kind::string: {
      std::string joined;
      while (look().kind == token_kind::string) joined += take().text;
      made->literal = value::trusted(std::move(joined));
      return made;
    }
    case token_kind::name: break;
    default: fail(std::string("expected an expression, found ") + shown());
  }
  const std::string name = take().text;
  if (name == "true" || name == "True") made->literal = value::boolean(true);
  else if (name == "false" || name == "False") made->literal = value::boolean(false);
  else if (name == "none" || name == "None") made->literal = value::none();
  else {
    made->kind = expression_kind::name;
    made->name = name;
  }
  return made;
}

parser::node parser::parse_brackets() {
  const bool list = take().text == "[";
  const std::string_view close = list ? "]" : ")";
  std::vector<expression_ptr> items;
  bool comma = false;
  while (!on_symbol(close)) {
    if (!items.empty() && !comma) expect_symbol(",");
    items.push_back(parse_expression());
    comma = take_symbol(",");
  }
  expect_symbol(close);
  if (!list && items.size() == 1 && !comma) return std::move(items[0]);
  return make(list ? expression_kind::list : expression_kind::tuple, std::move(items));
}

parser::node parser::parse_dict() {
  expect_symbol("{");
  std::vector<expression_ptr> parts;
  while (!on_symbol("}")) {
    if (!parts.empty()) expect_symbol(",");
    if (on_symbol("}")) break;
    parts.push_back(parse_expression());
    expect_symbol(":");
    parts.push_back(parse_expression());
  }
  expect_symbol("}");
  return make(expression_kind::dict, std::move(parts));
}

}  // namespace troupe::models::jinja
