// Tokens to a tree: Jinja's grammar as far as chat templates use it. Knows no values but literals.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "models/chat_template/lexer.hpp"
#include "models/chat_template/syntax.hpp"

namespace troupe::models::jinja {

/// Recursive descent. Nesting and the height of every expression are bounded; throws template_failure.
class parser {
public:
  explicit parser(std::vector<token> tokens) : tokens_(std::move(tokens)) {}
  statements parse_template();

private:
  static constexpr std::size_t max_nesting = 100;
  static constexpr std::size_t max_height = 200;

  struct nested {  // one level of brackets or blocks
    explicit nested(parser& p) : owner(p) {
      if (++owner.nesting_ > max_nesting) owner.fail("the template nests too deeply");
    }
    ~nested() { --owner.nesting_; }
    parser& owner;
  };
  using node = expression_ptr;

  [[noreturn]] void fail(std::string why) const;
  const token& look(std::size_t ahead = 0) const;
  token take() {
    token taken = look();
    if (at_ + 1 < tokens_.size()) ++at_;
    return taken;
  }
  bool on_symbol(std::string_view text, std::size_t ahead = 0) const;
  bool on_name(std::string_view text, std::size_t ahead = 0) const;
  bool take_symbol(std::string_view text);
  bool take_name(std::string_view text);
  void expect_symbol(std::string_view text);
  std::string expect_name();
  std::string shown() const;

  // parse_statement.cpp
  statements parse_until(std::initializer_list<std::string_view> ends);
  statement parse_statement();
  statement parse_if();
  statement parse_for();
  statement parse_set();
  statement parse_macro();
  statement parse_loop_control(statement_kind kind);
  assignment_target parse_target(bool may_be_attribute);
  statement begin(statement_kind kind) const;
  void end_tag();
  void expect_end(std::string_view name);

  // parse_expression.cpp and parse_postfix.cpp
  node make(expression_kind kind, std::vector<expression_ptr> operands = {}) const;
  node checked(node made) const;
  node parse_tuple(bool with_conditional = true);
  node parse_expression(bool with_conditional = true);
  node parse_or();
  node parse_and();
  node parse_not();
  node parse_compare();
  node parse_sum();
  node parse_concat();
  node parse_product();
  node parse_power();
  node parse_unary(bool with_filters = true);
  node parse_primary();
  node parse_literal_or_name();
  node parse_brackets();
  node parse_dict();
  node parse_postfix(node subject);
  node parse_subscript(node subject);
  node parse_filters_and_tests(node subject, bool statement_filter = false);
  node parse_filter(node subject);
  node parse_test(node subject);
  void parse_arguments(expression& call);

  std::vector<token> tokens_;
  std::size_t at_ = 0;
  std::size_t nesting_ = 0;
  std::size_t loops_ = 0;
};

}  // namespace troupe::models::jinja
