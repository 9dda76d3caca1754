// str() and repr() as Python has them.
#include "models/chat_template/printing.hpp"

#include <utility>

#include <utf8proc.h>

#include "models/chat_template/code_points.hpp"
#include "models/chat_template/number_text.hpp"

namespace troupe::models::jinja {
namespace {

bool printable(char32_t symbol) {
  const auto kind = utf8proc_category(static_cast<utf8proc_int32_t>(symbol));
  return symbol == ' ' ||
         (kind != UTF8PROC_CATEGORY_CN && (kind < UTF8PROC_CATEGORY_ZS || kind > UTF8PROC_CATEGORY_CO));
}

std::string hex(char32_t symbol, int digits) {
  std::string out(static_cast<std::size_t>(digits), '0');
  for (int i = digits - 1; i >= 0; --i, symbol >>= 4)
    out[static_cast<std::size_t>(i)] = "0123456789abcdef"[symbol & 15];
  return out;
}

std::string escaped(char32_t symbol) {
  if (symbol == '\n') return "\\n";
  if (symbol == '\r') return "\\r";
  if (symbol == '\t') return "\\t";
  if (symbol < 0x100) return std::string("\\x") + hex(symbol, 2);
  return symbol < 0x10000 ? std::string("\\u") + hex(symbol, 4) : std::string("\\U") + hex(symbol, 8);
}

void append_quoted(meter& cost, const text& source, text& out) {
  cost.text_size(out.size() + source.size() + 2);
  cost.step(source.size() / 64);
  const bool doubled =
      source.view().find('\'') != std::string_view::npos && source.view().find('"') == std::string_view::npos;
  const char quote = doubled ? '"' : '\'';
  out.append({&quote, 1}, true);
  source.for_each_run([&](std::string_view run, bool trusted) {
    std::string piece;
    for (std::size_t at = 0; at < run.size();) {
      const code_point point = decode_at(run, at);
      const std::string_view bytes = run.substr(at, point.bytes);
      if (bytes == "\\" || bytes == std::string_view(&quote, 1)) piece += '\\';
      if (point.symbol != invalid_symbol && !printable(point.symbol)) piece += escaped(point.symbol);
      else piece += bytes;
      at += point.bytes;
    }
    out.append(piece, trusted);
  });
  out.append({&quote, 1}, true);
}

// A range shows its bounds; the step is the distance of its first two numbers.
void append_range(const sequence& range, text& out) {
  const std::size_t count = range.items.size();
  const std::int64_t first = count ? *range.items[0].as_integer() : 0;
  const std::int64_t step = count > 1 ? *range.items[1].as_integer() - first : 1;
  const std::int64_t stop = first + step * static_cast<std::int64_t>(count);
  out.append(std::string("range(") + std::to_string(first) + ", " + std::to_string(stop), true);
  if (step != 1) out.append(std::string(", ") + std::to_string(step), true);
  out.append(")", true);
}

void append_sequence(meter& cost, const sequence& list, text& out) {
  constexpr std::pair<std::string_view, std::string_view> brackets[] = {
      {"[", "]"}, {"(", ")"}, {"range(", ")"}, {"dict_items([", "])"}, {"dict_keys([", "])"}, {"dict_values([", "])"}};
  if (list.kind == sequence_kind::generator) return out.append("<generator>", true);
  if (list.kind == sequence_kind::range) return append_range(list, out);
  const auto& [open, close] = brackets[static_cast<std::size_t>(list.kind)];
  out.append(open, true);
  for (std::size_t i = 0; i < list.items.size(); ++i) {
    if (i > 0) out.append(", ", true);
    append_repr(cost, list.items[i], out);
  }
  if (list.kind == sequence_kind::tuple && list.items.size() == 1) out.append(",", true);
  out.append(close, true);
}

template <class Entries, class AppendKey>
void append_braced(meter& cost, const Entries& entries, AppendKey append_key, text& out) {
  out.append("{", true);
  bool first = true;
  for (const auto& [key, item] : entries) {
    if (!std::exchange(first, false)) out.append(", ", true);
    append_key(key);
    out.append(": ", true);
    append_repr(cost, item, out);
  }
  out.append("}", true);
}

}  // namespace

void append_repr(meter& cost, const value& printed, text& out) {
  const depth_guard guard(cost);
  cost.step();
  cost.text_size(out.size());
  if (printed.str()) return append_quoted(cost, *printed.str(), out);
  if (printed.seq()) return append_sequence(cost, *printed.seq(), out);
  if (printed.map()) {
    const auto append_key = [&](const value& key) { append_repr(cost, key, out); };
    return append_braced(cost, printed.map()->entries, append_key, out);
  }
  if (const auto* space = printed.as<name_space*>()) {
    out.append("<Namespace ", true);
    const auto append_key = [&](const std::string& key) { append_quoted(cost, text(key, true), out); };
    append_braced(cost, (*space)->attributes, append_key, out);
    return out.append(">", true);
  }
  if (printed.is_undefined()) return out.append("Undefined", true);
  append_str(cost, printed, out);
}

void append_str(meter& cost, const value& printed, text& out) {
  if (printed.str()) {
    cost.text_size(out.size() + printed.str()->size());
    cost.step(printed.str()->size() / 64);
    return out.append(*printed.str());
  }
  if (printed.is_none()) out.append("None", true);
  else if (const auto* b = printed.as<bool>()) out.append(*b ? "True" : "False", true);
  else if (const auto* i = printed.as<std::int64_t>()) out.append(std::to_string(*i), true);
  else if (const auto* d = printed.as<double>()) out.append(real_text(*d), true);
  else if (printed.function()) out.append(std::string("<function ") + printed.function()->name + ">", true);
  else if (printed.as<std::shared_ptr<const loop_state>>()) out.append("<LoopContext>", true);
  else if (!printed.is_undefined()) append_repr(cost, printed, out);
}

text to_text(meter& cost, const value& printed) {
  text out;
  append_str(cost, printed, out);
  return out;
}

}  // namespace troupe::models::jinja
