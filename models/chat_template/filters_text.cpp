// Filters that make text or numbers: trim, upper, replace, indent, tojson, int, round and so on.
#include <algorithm>
#include <cmath>

#include "models/chat_template/filter_tables.hpp"
#include "models/chat_template/format_text.hpp"
#include "models/chat_template/number_text.hpp"
#include "models/chat_template/printing.hpp"
#include "models/chat_template/text_operations.hpp"

namespace troupe::models::jinja {
namespace {

using given = const bound_arguments&;

value trim(renderer& run, const value& v, given arguments) {
  return run.string(stripped(to_text(run.cost, v), arguments.some(0), run));
}
template <letter_case wanted>
value change_case(renderer& run, const value& v, given) {
  return run.string(in_case(run, to_text(run.cost, v), wanted));
}
value capitalize(renderer& run, const value& v, given) { return run.string(capitalized(run, to_text(run.cost, v))); }

value title(renderer& run, const value& v, given) {
  constexpr auto starts = [](char32_t previous, char32_t) {
    return is_space(previous) || previous == '-' || previous == '(' || previous == '{' || previous == '[' ||
           previous == '<';
  };
  return run.string(titled(run, to_text(run.cost, v), starts));
}

value replace(renderer& run, const value& v, given arguments) {
  const text from = to_text(run.cost, arguments.required(0)), to = to_text(run.cost, arguments.required(1));
  return run.string(
      replaced(run, to_text(run.cost, v), from, to, arguments.some(2) ? arguments.integer_or(2, -1) : -1));
}

value string(renderer& run, const value& v, given) { return v.str() ? v : run.string(to_text(run.cost, v)); }
value safe(renderer& run, const value& v, given arguments) { return string(run, v, arguments); }

value escape(renderer& run, const value& v, given) {
  text made;
  to_text(run.cost, v).for_each_run([&](std::string_view bytes, bool trusted) {
    constexpr std::string_view special = "&<>'\"";
    constexpr std::string_view names[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
    std::string piece;
    for (char c : bytes) {
      const std::size_t which = special.find(c);
      if (which == std::string_view::npos) piece += c;
      else piece += names[which];
    }
    made.append(piece, trusted);
  });
  return run.string(std::move(made));
}

value format(renderer& run, const value& v, given arguments) {
  const auto& all = arguments.all();
  if (all.named.empty())
    return run.string(format_percent(run, to_text(run.cost, v), run.list(all.positional, sequence_kind::tuple)));
  std::vector<std::pair<value, value>> entries;
  for (const auto& [name, one] : all.named) entries.emplace_back(value::trusted(std::string(name)), one);
  return run.string(format_percent(run, to_text(run.cost, v), run.dict(std::move(entries))));
}

text spaces(renderer& run, const value* width, std::int64_t fallback) {
  if (width && width->str()) return *width->str();
  const auto count = width ? width->as_integer() : fallback;
  if (!count) run.fail("an indent is a number or a string");
  run.cost.text_bytes(static_cast<std::size_t>(std::max<std::int64_t>(0, *count)));
  return text(std::string(static_cast<std::size_t>(std::max<std::int64_t>(0, *count)), ' '), true);
}

value indent(renderer& run, const value& v, given arguments) {
  const text margin = spaces(run, arguments[0], 4);
  const bool first = arguments.flag_or(1, false), blank = arguments.flag_or(2, false);
  if (!v.str()) run.fail(std::string("indent needs a string, not ") + std::string(v.type_name()));
  text source = *v.str();
  source.append("\n", true);  // Jinja adds one too, so that a last line end makes a line
  const std::vector<text> lines = lines_of(source, false);
  text made;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) made.append("\n", true);
    run.cost.text_size(made.size() + margin.size() + lines[i].size());
    run.cost.step(1 + margin.size() / 64);
    if (i == 0 ? first : blank || !lines[i].empty()) made.append(margin);
    made.append(lines[i]);
  }
  return run.string(std::move(made));
}

value tojson(renderer& run, const value& v, given arguments) {
  json_style style;
  style.ensure_ascii = arguments.flag_or(0, false);
  if (arguments.some(1)) style.indent = spaces(run, arguments[1], 0);
  style.item_separator = text(style.indent ? "," : ", ", true);
  style.key_separator = text(": ", true);
  if (arguments.some(2)) {
    const auto both = run.elements(*arguments[2]);
    if (both->items.size() != 2 || !both->items[0].str() || !both->items[1].str())
      run.fail("tojson's separators are two strings");
    style.item_separator = *both->items[0].str();
    style.key_separator = *both->items[1].str();
  }
  style.sort_keys = arguments.flag_or(3, false);
  text made;
  append_json(run.cost, v, style, made);
  return run.string(std::move(made));
}

value to_int(renderer& run, const value& v, given arguments) {
  if (v.is_undefined()) run.fail_undefined(v);
  const value fallback = arguments[0] ? *arguments[0] : value::integer(0);
  if (arguments.integer_or(1, 10) != 10) run.fail("int knows base 10 only");
  if (const auto whole = v.as_integer()) return value::integer(*whole);
  if (v.str())
    if (const auto whole = parse_integer(v.str()->view())) return value::integer(*whole);
  const auto real = v.str() ? parse_real(v.str()->view()) : v.as_real();
  if (!real || !std::isfinite(*real)) return fallback;
  if (std::abs(*real) >= 9.2e18) run.fail("integer overflow");
  return value::integer(static_cast<std::int64_t>(*real));
}

value to_float(renderer& run, const value& v, given arguments) {
  if (v.is_undefined()) run.fail_undefined(v);
  const auto real = v.str() ? parse_real(v.str()->view()) : v.as_real();
  return real ? value::real(*real) : arguments[0] ? *arguments[0] : value::real(0);
}

value absolute(renderer& run, const value& v, given) {
  if (v.is_undefined()) run.fail_undefined(v);
  if (const auto* real = v.as<double>()) return value::real(std::abs(*real));
  if (!v.as_integer()) run.fail(std::string("abs needs a number, not ") + std::string(v.type_name()));
  return *v.as_integer() < 0 ? run.unary(op::negate, v) : value::integer(*v.as_integer());
}

value round(renderer& run, const value& v, given arguments) {
  if (v.is_undefined()) run.fail_undefined(v);
  const std::int64_t precision = arguments.integer_or(0, 0);
  const std::string_view method = arguments[1] ? arguments.required_text(1).view() : "common";
  if (!v.as_real()) run.fail(std::string("round needs a number, not ") + std::string(v.type_name()));
  if (precision < 0 || precision > 100) run.fail("round's precision is out of range");
  if (method == "common") {
    if (v.as_integer()) return value::integer(*v.as_integer());
    return std::isfinite(*v.as_real()) ? value::real(*parse_real(fixed_text(*v.as_real(), static_cast<int>(precision))))
                                       : v;
  }
  if (method != "ceil" && method != "floor") run.fail("round's method is common, ceil or floor");
  const double scale = std::pow(10.0, static_cast<double>(precision)), scaled = *v.as_real() * scale;
  return value::real((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
}

value wordcount(renderer& run, const value& v, given) {
  const text source = to_text(run.cost, v);
  std::int64_t words = 0;
  bool inside = false;
  for (std::size_t at = 0; at < source.size();) {
    const code_point point = decode_at(source.view(), at);
    const bool word = is_alpha(point.symbol) || is_digit(point.symbol) || point.symbol == '_';
    words += word && !inside;
    inside = word;
    at += point.bytes;
  }
  return value::integer(words);
}

constexpr builtin filters[] = {{"trim", "chars", trim},
                               {"upper", "", change_case<letter_case::upper>},
                               {"lower", "", change_case<letter_case::lower>},
                               {"capitalize", "", capitalize},
                               {"title", "", title},
                               {"replace", "old new count", replace},
                               {"string", "", string},
                               {"safe", "", safe},
                               {"e", "", escape},
                               {"escape", "", escape},
                               {"format", "*", format},
                               {"indent", "width first blank", indent},
                               {"tojson", "ensure_ascii indent separators sort_keys", tojson},
                               {"int", "default base", to_int},
                               {"float", "default", to_float},
                               {"abs", "", absolute},
                               {"round", "precision method", round},
                               {"wordcount", "", wordcount}};

}  // namespace

const builtin* find_text_filter(std::string_view name) {
  const auto* found =
      std::find_if(std::begin(filters), std::end(filters), [&](const builtin& one) { return one.name == name; });
  return found == std::end(filters) ? nullptr : found;
}

}  // namespace troupe::models::jinja
