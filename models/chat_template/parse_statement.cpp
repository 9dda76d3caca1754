// Blocks: if, for, set, macro, generation, break, continue; and the token cursor.
#include <algorithm>

#include "models/chat_template/meter.hpp"
#include "models/chat_template/parser.hpp"

namespace troupe::models::jinja {

void parser::fail(std::string why) const {
  throw template_failure{{errc::corrupt_file, "line " + std::to_string(look().line) + ": " + std::move(why), {}}};
}

const token& parser::look(std::size_t ahead) const { return tokens_[std::min(at_ + ahead, tokens_.size() - 1)]; }

bool parser::on_symbol(std::string_view text, std::size_t ahead) const {
  return look(ahead).kind == token_kind::symbol && look(ahead).text == text;
}
bool parser::on_name(std::string_view text, std::size_t ahead) const {
  return look(ahead).kind == token_kind::name && look(ahead).text == text;
}
bool parser::take_symbol(std::string_view text) {
  const bool found = on_symbol(text);
  if (found) take();
  return found;
}
bool parser::take_name(std::string_view text) {
  const bool found = on_name(text);
  if (found) take();
  return found;
}
void parser::expect_symbol(std::string_view text) {
  if (!take_symbol(text)) fail(std::string("expected '") + std::string(text) + "', found " + shown());
}
std::string parser::expect_name() {
  if (look().kind != token_kind::name) fail(std::string("expected a name, found ") + shown());
  return take().text;
}

std::string parser::shown() const {
  switch (look().kind) {
    case token_kind::end: return "the end of the template";
    case token_kind::print_end:
    case token_kind::block_end: return "the end of the tag";
    case token_kind::string: return "a string";
    case token_kind::integer:
    case token_kind::real: return "a number";
    case token_kind::data:
    case token_kind::print_begin:
    case token_kind::block_begin: return "template text";
    default: return std::string("'") + look().text.substr(0, 40) + "'";
  }
}

statement parser::begin(statement_kind kind) const {
  statement made;
  made.kind = kind;
  made.line = look().line;
  return made;
}

void parser::end_tag() {
  if (look().kind != token_kind::block_end) fail(std::string("expected the end of the tag, found ") + shown());
  take();
}

statements parser::parse_template() {
  statements all = parse_until({});
  if (look().kind != token_kind::end) fail(std::string("unexpected ") + shown());
  return all;
}

// Stops on the name of one of `ends`, its block_begin taken; with no ends, at the end of the template.
statements parser::parse_until(std::initializer_list<std::string_view> ends) {
  const nested guard(*this);
  statements body;
  while (look().kind != token_kind::end) {
    if (look().kind == token_kind::data) {
      body.push_back(begin(statement_kind::data));
      body.back().data = text(take().text, true);
    } else if (look().kind == token_kind::print_begin) {
      take();
      body.push_back(begin(statement_kind::print));
      body.back().main = parse_tuple();
      if (look().kind != token_kind::print_end) fail(std::string("expected the end of the tag, found ") + shown());
      take();
    } else {
      take();
      if (std::any_of(ends.begin(), ends.end(), [&](auto end) { return on_name(end); })) return body;
      body.push_back(parse_statement());
    }
  }
  if (ends.size() > 0) fail(std::string("'") + std::string(*ends.begin()) + "' is missing");
  return body;
}

void parser::expect_end(std::string_view name) {
  if (!take_name(name)) fail(std::string("expected '") + std::string(name) + "', found " + shown());
  end_tag();
}

statement parser::parse_statement() {
  if (on_name("if")) return parse_if();
  if (on_name("for")) return parse_for();
  if (on_name("set")) return parse_set();
  if (on_name("macro")) return parse_macro();
  if (on_name("break")) return parse_loop_control(statement_kind::break_);
  if (on_name("continue")) return parse_loop_control(statement_kind::continue_);
  if (on_name("generation")) {  // marks the assistant's text for training; a plain block here
    statement made = begin(statement_kind::block);
    take();
    end_tag();
    made.body = parse_until({"endgeneration"});
    expect_end("endgeneration");
    return made;
  }
  fail(std::string("unknown tag ") + shown());
}

statement parser::parse_loop_control(statement_kind kind) {
  if (loops_ == 0) fail(shown() + " outside of a loop");
  statement made = begin(kind);
  take();
  end_tag();
  return made;
}

statement parser::parse_if() {
  statement made = begin(statement_kind::if_);
  take();
  for (bool last = false; !last;) {
    branch next;
    if (made.branches.empty() || take_name("elif")) next.condition = parse_tuple(false);
    else last = take_name("else");
    end_tag();
    if (last) next.body = parse_until({"endif"});
    else next.body = parse_until({"endif", "elif", "else"});
    made.branches.push_back(std::move(next));
    if (on_name("endif")) break;
  }
  expect_end("endif");
  return made;
}

statement parser::parse_for() {
  statement made = begin(statement_kind::for_);
  take();
  made.target = parse_target(false);
  if (!take_name("in")) fail(std::string("expected 'in', found ") + shown());
  made.main = parse_tuple(false);
  if (take_name("if")) made.condition = parse_expression();
  if (on_name("recursive")) fail("recursive loops are not supported");
  end_tag();
  ++loops_;
  made.body = parse_until({"endfor", "else"});
  --loops_;
  if (take_name("else")) {
    end_tag();
    made.otherwise = parse_until({"endfor"});
  }
  expect_end("endfor");
  return made;
}

assignment_target parser::parse_target(bool may_be_attribute) {
  constexpr std::string_view reserved[] = {"true", "false", "none", "True", "False", "None"};
  assignment_target target;
  const bool brackets = take_symbol("(");
  do {
    if (!target.names.empty() && look().kind != token_kind::name) break;
    if (std::any_of(std::begin(reserved), std::end(reserved), [&](auto word) { return on_name(word); }))
      fail(std::string("cannot assign to ") + shown());
    target.names.push_back(expect_name());
    if (on_symbol(",")) target.unpacks = true;
  } while (take_symbol(","));
  if (brackets) expect_symbol(")");
  if (may_be_attribute && !target.unpacks && take_symbol(".")) target.attribute = expect_name();
  return target;
}

statement parser::parse_set() {
  statement made = begin(statement_kind::set);
  take();
  made.target = parse_target(true);
  if (take_symbol("=")) {
    made.main = parse_tuple();
    end_tag();
    return made;
  }
  made.kind = statement_kind::set_block;
  if (on_symbol("|")) {
    node subject = make(expression_kind::name);
    subject->name.assign(1, block_subject[0]);
    made.main = parse_filters_and_tests(std::move(subject), true);
  }
  end_tag();
  made.body = parse_until({"endset"});
  expect_end("endset");
  return made;
}

statement parser::parse_macro() {
  statement made = begin(statement_kind::macro);
  take();
  made.name = expect_name();
  expect_symbol("(");
  while (!on_symbol(")")) {
    if (!made.parameters.empty()) expect_symbol(",");
    parameter next{expect_name(), nullptr};
    if (take_symbol("=")) next.fallback = parse_expression();
    else if (!made.parameters.empty() && made.parameters.back().fallback)
      fail("a parameter without a default follows one with");
    made.parameters.push_back(std::move(next));
  }
  expect_symbol(")");
  end_tag();
  const std::size_t loops = std::exchange(loops_, 0);  // a macro's body is outside of the loops around it
  made.body = parse_until({"endmacro"});
  loops_ = loops;
  expect_end("endmacro");
  return made;
}

}  // namespace troupe::models::jinja
