// Statements: output, choice, loops, assignment and macros.
#include "models/chat_template/renderer.hpp"

#include <algorithm>

#include "models/chat_template/code_points.hpp"
#include "models/chat_template/printing.hpp"

namespace troupe::models::jinja {
namespace {

// Puts a value back when the block that changed it ends, however it ends.
template <class T>
class restored {
public:
  restored(T& place, T during) : place_(place), before_(std::exchange(place, std::move(during))) {}
  ~restored() { place_ = std::move(before_); }
  restored(const restored&) = delete;
  restored& operator=(const restored&) = delete;

private:
  T& place_;
  T before_;
};

}  // namespace

value* scope::find(std::string_view name) {
  for (auto& [known, held] : names)
    if (known == name) return &held;
  return nullptr;
}

text renderer::render(const statements& body) {
  text out;
  out_ = &out;
  execute(body);
  return out;
}

flow renderer::execute(const statements& body) {
  const depth_guard guard(cost);
  for (const statement& one : body) {
    cost.at(one.line);
    cost.step();
    if (const flow ended = execute(one); ended != flow::normal) return ended;
  }
  return flow::normal;
}

flow renderer::execute(const statement& one) {
  switch (one.kind) {
    case statement_kind::data: print(one.data); break;
    case statement_kind::print: {
      const value printed = evaluate(*one.main);
      cost.at(one.line);
      print(printed.str() ? *printed.str() : to_text(cost, printed));
      break;
    }
    case statement_kind::if_: return execute_if(one);
    case statement_kind::for_: return execute_for(one);
    case statement_kind::set:
    case statement_kind::set_block: execute_set(one); break;
    case statement_kind::macro: set_name(one.name, define_macro(one)); break;
    case statement_kind::block: return execute(one.body);
    case statement_kind::break_: return flow::break_;
    case statement_kind::continue_: return flow::continue_;
  }
  return flow::normal;
}

void renderer::print(const text& part) {
  if (printing_output_) {
    cost.output_bytes(out_->size() + part.size());
  } else {
    cost.text_size(out_->size() + part.size());
  }
  cost.step(part.size() / 64);
  out_->append(part);
}

flow renderer::execute_if(const statement& choice) {
  for (const branch& one : choice.branches)
    if (!one.condition || evaluate(*one.condition).truthy()) return execute(one.body);
  return flow::normal;
}

std::shared_ptr<const sequence> renderer::filtered(const statement& loop, std::shared_ptr<const sequence> items) {
  if (!loop.condition) return items;
  const restored inner(scope_, std::make_shared<scope>(scope{scope_, {}}));
  sequence kept;
  for (const value& one : items->items) {
    cost.step();
    assign(loop.target, one);
    if (evaluate(*loop.condition).truthy()) kept.items.push_back(one);
  }
  return std::make_shared<const sequence>(std::move(kept));
}

flow renderer::execute_for(const statement& loop) {
  const auto state = std::make_shared<loop_state>();
  state->items = filtered(loop, elements(evaluate(*loop.main)));
  const auto& items = state->items->items;
  if (items.empty()) return execute_otherwise(loop);
  for (std::size_t i = 0; i < items.size(); ++i) {
    cost.at(loop.line);
    cost.step();
    state->index = i;
    const restored inner(scope_, std::make_shared<scope>(scope{scope_, {}}));
    set_name("loop", value(value::storage(std::shared_ptr<const loop_state>(state))));
    assign(loop.target, items[i]);
    if (execute(loop.body) == flow::break_) break;
  }
  return flow::normal;
}

flow renderer::execute_otherwise(const statement& loop) {
  const restored inner(scope_, std::make_shared<scope>(scope{scope_, {}}));
  return execute(loop.otherwise);
}

void renderer::execute_set(const statement& set) {
  if (set.kind == statement_kind::set) return assign(set.target, evaluate(*set.main));
  value made;
  {
    const restored inner(scope_, std::make_shared<scope>(scope{scope_, {}}));
    made = string(captured(set.body));
  }
  if (set.main) {
    const restored inner(scope_, std::make_shared<scope>(scope{scope_, {}}));
    set_name(block_subject, std::move(made));
    made = evaluate(*set.main);
  }
  assign(set.target, made);
}

text renderer::captured(const statements& body) {
  text out;
  const restored into(out_, &out);
  const restored kind(printing_output_, false);
  execute(body);
  return out;
}

void renderer::set_name(std::string_view name, value assigned) {
  if (value* known = scope_->find(name)) *known = std::move(assigned);
  else scope_->names.emplace_back(name, std::move(assigned));
}

void renderer::assign(const assignment_target& target, const value& assigned) {
  if (!target.attribute.empty()) {
    const value holder = lookup(target.names[0]);
    const auto* space = holder.as<name_space*>();
    if (!space) fail(std::string("'") + target.names[0] + "' is not a namespace, so its attributes cannot be set");
    for (auto& [name, held] : (*space)->attributes)
      if (name == target.attribute) {
        held = assigned;
        return;
      }
    (*space)->attributes.emplace_back(target.attribute, assigned);
    return;
  }
  if (!target.unpacks) return set_name(target.names[0], assigned);
  const auto parts = elements(assigned);
  if (parts->items.size() != target.names.size())
    fail(std::string("expected ") + std::to_string(target.names.size()) + " values to unpack, found " +
         std::to_string(parts->items.size()));
  for (std::size_t i = 0; i < target.names.size(); ++i) set_name(target.names[i], parts->items[i]);
}

// The macro sees the names of the place that defines it, as they are when it is called. Its value holds that scope
// only weakly: the scope holds the value.
value renderer::define_macro(const statement& macro) {
  callable made;
  made.name = macro.name;
  made.invoke = [&macro, home = std::weak_ptr<scope>(scope_)](renderer& run, const arguments& given) {
    const auto alive = home.lock();
    if (!alive) run.fail(std::string("the macro '") + macro.name + "' is called outside of the block that defines it");
    return run.call_macro(macro, alive, given);
  };
  return value(value::storage(std::make_shared<const callable>(std::move(made))));
}

value renderer::call_macro(const statement& macro, const std::shared_ptr<scope>& home, const arguments& given) {
  const auto& parameters = macro.parameters;
  if (given.positional.size() > parameters.size())
    fail(std::string("macro '") + macro.name + "' takes at most " + std::to_string(parameters.size()) + " arguments");
  for (const auto& [name, unused] : given.named) {
    const auto known = std::find_if(parameters.begin(), parameters.end(), [&n = name](auto& p) { return p.name == n; });
    if (known == parameters.end())
      fail(std::string("macro '") + macro.name + "' has no parameter '" + std::string(name) + "'");
    if (static_cast<std::size_t>(known - parameters.begin()) < given.positional.size())
      fail(std::string("macro '") + macro.name + "' got '" + std::string(name) + "' twice");
  }
  const restored inner(scope_, std::make_shared<scope>(scope{home, {}}));
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const parameter& one = parameters[i];
    const auto named =
        std::find_if(given.named.begin(), given.named.end(), [&](auto& pair) { return pair.first == one.name; });
    if (i < given.positional.size()) set_name(one.name, given.positional[i]);
    else if (named != given.named.end()) set_name(one.name, named->second);
    else if (one.fallback) set_name(one.name, evaluate(*one.fallback));
    else set_name(one.name, value::undefined_because(std::string("parameter '") + one.name + "' was not provided"));
  }
  return string(captured(macro.body));
}

value renderer::lookup(std::string_view name) {
  for (scope* level = scope_.get(); level; level = level->outer.get())
    if (const value* known = level->find(name)) return *known;
  if (const value* given = context_.find(name)) return *given;
  value global = find_global(name);
  if (!global.is_undefined()) return global;
  return value::undefined_because(std::string("'") + std::string(name) + "' is undefined");
}

std::shared_ptr<const sequence> renderer::elements(const value& walked) {
  if (const auto* list = walked.as<std::shared_ptr<const sequence>>()) {
    cost.step((*list)->items.size());
    if ((*list)->kind != sequence_kind::generator) return *list;
    sequence rest;
    rest.items.assign((*list)->items.begin() + static_cast<std::ptrdiff_t>((*list)->consumed), (*list)->items.end());
    (*list)->consumed = (*list)->items.size();
    return std::make_shared<const sequence>(std::move(rest));
  }
  sequence made;
  if (const text* source = walked.str()) {
    cost.step(source->size());
    for (std::size_t at = 0; at < source->size();) {
      const std::size_t bytes = decode_at(source->view(), at).bytes;
      made.items.push_back(value::string(source->slice(at, at + bytes)));
      at += bytes;
    }
  } else if (walked.map()) {
    cost.step(walked.map()->entries.size());
    for (const auto& entry : walked.map()->entries) made.items.push_back(entry.first);
  } else if (!walked.is_undefined()) {
    fail(std::string("a value of type ") + std::string(walked.type_name()) + " cannot be walked");
  }
  return std::make_shared<const sequence>(std::move(made));
}

}  // namespace troupe::models::jinja
