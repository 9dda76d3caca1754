// json.dumps: https://docs.python.org/3/library/json.html, separators and all.
#include <algorithm>
#include <cmath>
#include <vector>

#include "models/chat_template/code_points.hpp"
#include "models/chat_template/number_text.hpp"
#include "models/chat_template/printing.hpp"

namespace troupe::models::jinja {
namespace {

class json_writer {
public:
  json_writer(meter& cost, const json_style& style, text& out) : cost_(cost), style_(style), out_(out) {}

  void write(const value& printed) {
    const depth_guard guard(cost_);
    cost_.step();
    cost_.text_size(out_.size());
    if (printed.str()) return quoted(*printed.str());
    if (printed.map()) return object(*printed.map());
    if (printed.seq() && printed.seq()->kind <= sequence_kind::tuple) return array(*printed.seq());
    const std::string plain = scalar(printed);
    if (plain.empty())
      cost_.fail(std::string("a value of type ") + std::string(printed.type_name()) + " has no JSON form");
    put(plain);
  }

private:
  void put(std::string_view bytes) { out_.append(bytes, true); }

  static std::string scalar(const value& printed) {
    if (printed.is_none()) return "null";
    if (const auto* b = printed.as<bool>()) return *b ? "true" : "false";
    if (const auto* i = printed.as<std::int64_t>()) return std::to_string(*i);
    const auto* d = printed.as<double>();
    if (!d) return {};
    if (std::isnan(*d)) return "NaN";
    if (std::isinf(*d)) return *d < 0 ? "-Infinity" : "Infinity";
    return real_text(*d);
  }

  void line(std::size_t level) {
    if (!style_.indent) return;
    put("\n");
    cost_.text_bytes(style_.indent->size() * level);
    for (; level > 0; --level) out_.append(*style_.indent);
  }

  void array(const sequence& list) {
    if (list.items.empty()) return put("[]");
    put("[");
    ++level_;
    for (std::size_t i = 0; i < list.items.size(); ++i) {
      if (i > 0) out_.append(style_.item_separator);
      line(level_);
      write(list.items[i]);
    }
    line(--level_);
    put("]");
  }

  void object(const mapping& map) {
    if (map.entries.empty()) return put("{}");
    put("{");
    ++level_;
    bool first = true;
    for (const std::size_t i : order(map)) {
      if (!std::exchange(first, false)) out_.append(style_.item_separator);
      line(level_);
      const auto& [key, item] = map.entries[i];
      if (key.str()) quoted(*key.str());
      else quoted(text(scalar(key), true));
      out_.append(style_.key_separator);
      write(item);
    }
    line(--level_);
    put("}");
  }

  std::vector<std::size_t> order(const mapping& map) const {
    if (style_.sort_keys) {
      if (map.by_name.size() != map.entries.size()) cost_.fail("only string keys can be sorted");
      return {map.by_name.begin(), map.by_name.end()};
    }
    std::vector<std::size_t> all(map.entries.size());
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = i;
    return all;
  }

  void quoted(const text& source) {
    cost_.text_size(out_.size() + source.size() + 2);
    cost_.step(source.size() / 64);
    put("\"");
    source.for_each_run([&](std::string_view run, bool trusted) {
      std::string piece;
      for (std::size_t at = 0; at < run.size();) {
        const code_point point = decode_at(run, at);
        append_escaped(run.substr(at, point.bytes), point.symbol, piece);
        at += point.bytes;
      }
      out_.append(piece, trusted);
    });
    put("\"");
  }

  void append_escaped(std::string_view bytes, char32_t symbol, std::string& out) const {
    constexpr std::string_view named = "\"\\\b\f\n\r\t", letters = "\"\\bfnrt";
    const std::size_t which = bytes.size() == 1 ? named.find(bytes[0]) : std::string_view::npos;
    if (which != std::string_view::npos) {
      out.append({'\\', letters[which]});
    } else if (symbol < 0x20 || (style_.ensure_ascii && symbol >= 0x7F && symbol != invalid_symbol)) {
      if (symbol < 0x10000) return unit(symbol, out);
      unit(0xD7C0 + (symbol >> 10), out);
      unit(0xDC00 + (symbol & 0x3FF), out);
    } else {
      out += bytes;
    }
  }

  static void unit(char32_t code, std::string& out) {
    out += "\\u";
    for (int shift = 12; shift >= 0; shift -= 4) out += "0123456789abcdef"[code >> shift & 15];
  }

  meter& cost_;
  const json_style& style_;
  text& out_;
  std::size_t level_ = 0;
};

}  // namespace

void append_json(meter& cost, const value& printed, const json_style& style, text& out) {
  json_writer(cost, style, out).write(printed);
}

}  // namespace troupe::models::jinja
