// The tests behind `is`: defined, string, mapping, divisibleby and so on.
#include <algorithm>
#include <cmath>

#include "models/chat_template/builtins.hpp"
#include "models/chat_template/code_points.hpp"
#include "models/chat_template/printing.hpp"
#include "models/chat_template/renderer.hpp"

namespace troupe::models::jinja {
namespace {

using given = const bound_arguments&;

value test_defined(renderer&, const value& v, given) { return value::boolean(!v.is_undefined()); }
value test_undefined(renderer&, const value& v, given) { return value::boolean(v.is_undefined()); }
value test_none(renderer&, const value& v, given) { return value::boolean(v.is_none()); }
value test_string(renderer&, const value& v, given) { return value::boolean(v.str() != nullptr); }
value test_number(renderer&, const value& v, given) { return value::boolean(v.as_real().has_value()); }
value test_mapping(renderer&, const value& v, given) { return value::boolean(v.map() != nullptr); }
value test_boolean(renderer&, const value& v, given) { return value::boolean(v.as<bool>() != nullptr); }
value test_integer(renderer&, const value& v, given) { return value::boolean(v.as<std::int64_t>() != nullptr); }
value test_float(renderer&, const value& v, given) { return value::boolean(v.as<double>() != nullptr); }
value test_true(renderer&, const value& v, given) { return value::boolean(v.as<bool>() && *v.as<bool>()); }
value test_false(renderer&, const value& v, given) { return value::boolean(v.as<bool>() && !*v.as<bool>()); }
value test_sequence(renderer&, const value& v, given) {
  return value::boolean(v.str() || v.map() || v.is_undefined() || (v.seq() && v.seq()->kind <= sequence_kind::range));
}
value test_iterable(renderer&, const value& v, given) {
  return value::boolean(v.str() || v.map() || v.is_undefined() || v.seq() || v.as<std::shared_ptr<const loop_state>>());
}
value test_callable(renderer&, const value& v, given) { return value::boolean(v.function() || v.is_undefined()); }

template <op operation>
value test_compare(renderer& run, const value& v, given arguments) {
  return value::boolean(run.compare(operation, v, arguments.required(0)));
}

// A string formats here, as in Python, and then equals no number.
value remainder(renderer& run, const value& v, const value& divisor) { return run.binary(op::modulo, v, divisor); }
value test_odd(renderer& run, const value& v, given) {
  return value::boolean(remainder(run, v, value::integer(2)).as_real() == 1.0);
}
value test_even(renderer& run, const value& v, given) {
  return value::boolean(remainder(run, v, value::integer(2)).as_real() == 0.0);
}
value test_divisibleby(renderer& run, const value& v, given arguments) {
  return value::boolean(remainder(run, v, arguments.required(0)).as_real() == 0.0);
}

// Identity is not observable on immutable values, so `sameas` asks for the same type and an equal value.
value test_sameas(renderer& run, const value& v, given arguments) {
  const value& other = arguments.required(0);
  return value::boolean(v.state().index() == other.state().index() && run.compare(op::equal, v, other));
}

bool has_case(renderer& run, const value& v, bool (*wanted)(char32_t), bool (*unwanted)(char32_t)) {
  const text shown = to_text(run.cost, v);
  bool any = false;
  for (std::size_t at = 0; at < shown.size();) {
    const code_point point = decode_at(shown.view(), at);
    if (unwanted(point.symbol)) return false;
    any = any || wanted(point.symbol);
    at += point.bytes;
  }
  return any;
}
value test_lower(renderer& run, const value& v, given) { return value::boolean(has_case(run, v, is_lower, is_upper)); }
value test_upper(renderer& run, const value& v, given) { return value::boolean(has_case(run, v, is_upper, is_lower)); }

constexpr builtin tests[] = {{"defined", "", test_defined},
                             {"undefined", "", test_undefined},
                             {"none", "", test_none},
                             {"string", "", test_string},
                             {"number", "", test_number},
                             {"mapping", "", test_mapping},
                             {"boolean", "", test_boolean},
                             {"integer", "", test_integer},
                             {"float", "", test_float},
                             {"true", "", test_true},
                             {"false", "", test_false},
                             {"sequence", "", test_sequence},
                             {"iterable", "", test_iterable},
                             {"callable", "", test_callable},
                             {"odd", "", test_odd},
                             {"even", "", test_even},
                             {"divisibleby", "num", test_divisibleby},
                             {"sameas", "other", test_sameas},
                             {"lower", "", test_lower},
                             {"upper", "", test_upper},
                             {"equalto", "b", test_compare<op::equal>},
                             {"eq", "b", test_compare<op::equal>},
                             {"==", "b", test_compare<op::equal>},
                             {"ne", "b", test_compare<op::not_equal>},
                             {"!=", "b", test_compare<op::not_equal>},
                             {"lt", "b", test_compare<op::less>},
                             {"lessthan", "b", test_compare<op::less>},
                             {"<", "b", test_compare<op::less>},
                             {"le", "b", test_compare<op::less_equal>},
                             {"<=", "b", test_compare<op::less_equal>},
                             {"gt", "b", test_compare<op::greater>},
                             {"greaterthan", "b", test_compare<op::greater>},
                             {">", "b", test_compare<op::greater>},
                             {"ge", "b", test_compare<op::greater_equal>},
                             {">=", "b", test_compare<op::greater_equal>},
                             {"in", "seq", test_compare<op::in>}};

}  // namespace

const builtin* find_test(std::string_view name) {
  const auto* found =
      std::find_if(std::begin(tests), std::end(tests), [&](const builtin& one) { return one.name == name; });
  return found == std::end(tests) ? nullptr : found;
}

}  // namespace troupe::models::jinja
