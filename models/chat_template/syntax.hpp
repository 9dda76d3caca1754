// The tree of a parsed template. Plain data, immutable once parsed; heights are bounded so that walking may recurse.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/chat_template/value.hpp"

namespace troupe::models::jinja {

struct builtin;

/// The name under which the filters of a filtered set block find the block's text; no template can write it.
inline constexpr std::string_view block_subject = "|";
struct expression;
using expression_ptr = std::unique_ptr<expression>;

enum class expression_kind {
  constant,  // literal
  name,      // name
  list,
  tuple,    // operands
  dict,     // operands: key, value, key, value ...
  unary,    // op, operands[0]
  binary,   // op, operands[0..1]
  concat,   // operands joined by ~
  compare,  // operands[0] ops[0] operands[1] ops[1] ...
  logic_and,
  logic_or,
  logic_not,
  conditional,  // operands: value, condition, otherwise (may be null)
  attribute,    // operands[0].name
  item,         // operands[0][operands[1]]
  slice,        // operands[0][operands[1]:operands[2]:operands[3]], the last three may be null
  filter,       // operands[0] | name(operands[1..], named)
  test,         // operands[0] is name(operands[1..], named)
  call          // operands[0](operands[1..], named)
};

enum class op {
  add,
  subtract,
  multiply,
  divide,
  floor_divide,
  modulo,
  power,
  negate,
  plus,
  equal,
  not_equal,
  less,
  less_equal,
  greater,
  greater_equal,
  in,
  not_in
};

struct expression {
  expression_kind kind = expression_kind::constant;
  std::size_t line = 1;
  std::size_t height = 1;
  std::string name;
  value literal;
  op operation = op::add;
  std::vector<op> operations;
  std::vector<expression_ptr> operands;
  std::vector<std::pair<std::string, expression_ptr>> named;
  const builtin* function = nullptr;  // the filter or test; null when there is none of that name
};

/// What `set` and `for` assign to: names, or one attribute of a namespace.
struct assignment_target {
  std::vector<std::string> names;
  bool unpacks = false;  // a tuple of names
  std::string attribute;
};

enum class statement_kind { data, print, if_, for_, set, set_block, macro, block, break_, continue_ };

struct statement;
using statements = std::vector<statement>;

struct branch {
  expression_ptr condition;  // null: else
  statements body;
};

struct parameter {
  std::string name;
  expression_ptr fallback;  // may be null
};

struct statement {
  statement_kind kind = statement_kind::data;
  std::size_t line = 1;
  text data;
  expression_ptr main;       // print: what; for_: over what; set: the value; set_block: the filters or null
  expression_ptr condition;  // for_: the filter or null
  assignment_target target;
  statements body;
  statements otherwise;  // for_: else
  std::vector<branch> branches;
  std::string name;  // macro
  std::vector<parameter> parameters;
};

}  // namespace troupe::models::jinja
