// Attributes, subscripts and slices, in the order in which Jinja looks for them.
#include <algorithm>
#include <optional>

#include "models/chat_template/code_points.hpp"
#include "models/chat_template/renderer.hpp"

namespace troupe::models::jinja {
namespace {

// loop.index and its kin; nothing for other names.
std::optional<value> loop_attribute(const loop_state& loop, std::string_view name) {
  const auto& items = loop.items->items;
  const auto count = static_cast<std::int64_t>(items.size());
  const auto index = static_cast<std::int64_t>(loop.index);
  if (name == "index") return value::integer(index + 1);
  if (name == "index0") return value::integer(index);
  if (name == "revindex") return value::integer(count - index);
  if (name == "revindex0") return value::integer(count - index - 1);
  if (name == "first") return value::boolean(index == 0);
  if (name == "last") return value::boolean(index + 1 == count);
  if (name == "length") return value::integer(count);
  if (name == "depth") return value::integer(1);
  if (name == "depth0") return value::integer(0);
  if (name == "previtem")
    return index > 0 ? items[loop.index - 1] : value::undefined_because("there is no previous item");
  if (name == "nextitem")
    return index + 1 < count ? items[loop.index + 1] : value::undefined_because("there is no next item");
  return std::nullopt;
}

// The position that a Python index means, or `count` when there is none.
std::size_t position(std::int64_t index, std::size_t count) {
  const auto size = static_cast<std::int64_t>(count);
  if (index < -size || index >= size) return count;
  return static_cast<std::size_t>(index < 0 ? index + size : index);
}

struct progression {
  std::int64_t first = 0;
  std::int64_t count = 0;
};

// Python's rules for [start:stop:step] on `count` elements; start and stop may be null, step is not zero.
progression slice_positions(std::size_t count, const std::int64_t* start, const std::int64_t* stop, std::int64_t step) {
  const auto size = static_cast<std::int64_t>(count);
  const std::int64_t least = step < 0 ? -1 : 0, most = step < 0 ? size - 1 : size;
  const auto clamped = [&](std::int64_t index) {
    return std::clamp(index < 0 ? std::max(index, -size - 1) + size : index, least, most);
  };
  const std::int64_t first = start ? clamped(*start) : step < 0 ? most : least;
  const std::int64_t end = stop ? clamped(*stop) : step < 0 ? least : most;
  if (step > 0 ? first >= end : first <= end) return {};
  const auto stride = step < 0 ? 0 - static_cast<std::uint64_t>(step) : static_cast<std::uint64_t>(step);
  const auto distance = static_cast<std::uint64_t>(step > 0 ? end - first : first - end);
  return {first, static_cast<std::int64_t>((distance - 1) / stride) + 1};
}

}  // namespace

value renderer::missing(const value& object, std::string_view name) const {
  return value::undefined_because(
      std::string(object.type_name()).append(" has no attribute '").append(name.substr(0, 100)).append("'"));
}

value renderer::bound_method(const value& object, const builtin& method) {
  callable made;
  made.name = method.name;
  made.invoke = [&method, object](renderer& run, const arguments& given) {
    return call_builtin(run, method, object, given);
  };
  return value(value::storage(std::make_shared<const callable>(std::move(made))));
}

value renderer::attribute(const value& object, std::string_view name) {
  if (object.is_undefined()) fail_undefined(object);
  if (const auto* loop = object.as<std::shared_ptr<const loop_state>>())
    if (auto found = loop_attribute(**loop, name)) return *found;
  if (const auto* space = object.as<name_space*>())
    for (const auto& [known, held] : (*space)->attributes)
      if (known == name) return held;
  if (const builtin* method = find_method(object, name)) return bound_method(object, *method);
  if (const value* entry = find_entry(object, name)) return *entry;
  return missing(object, name);
}

value renderer::item(const value& object, const value& key) {
  if (object.is_undefined()) fail_undefined(object);
  if (object.map())
    if (const value* entry = object.map()->find(key)) return *entry;
  if (const auto index = key.as_integer()) {
    if (object.str()) {
      const std::string_view bytes = object.str()->view();
      cost.step(bytes.size() / 64);
      const std::size_t count = count_code_points(bytes), at = position(*index, count);
      if (at < count) return value::string(object.str()->slice(byte_offset(bytes, at), byte_offset(bytes, at + 1)));
    }
    if (object.seq() && object.seq()->kind <= sequence_kind::range) {
      const std::size_t at = position(*index, object.seq()->items.size());
      if (at < object.seq()->items.size()) return object.seq()->items[at];
    }
  }
  if (!key.str()) return value::undefined_because(std::string(object.type_name()).append(" has no such element"));
  const std::string_view name = key.str()->view();
  return object.map() && !find_method(object, name) ? missing(object, name) : attribute(object, name);
}

value renderer::slice_text(const text& source, const std::int64_t* start, const std::int64_t* stop, std::int64_t step) {
  const std::string_view bytes = source.view();
  cost.step(1 + bytes.size() / 64);
  const progression picked = slice_positions(count_code_points(bytes), start, stop, step);
  const auto first = static_cast<std::size_t>(picked.first), count = static_cast<std::size_t>(picked.count);
  if (count == 0) return value::trusted("");
  if (step == 1) return string(source.slice(byte_offset(bytes, first), byte_offset(bytes, first + count)));
  cost.step(bytes.size());
  std::vector<std::size_t> offsets;
  for (std::size_t at = 0; at < bytes.size(); at += decode_at(bytes, at).bytes) offsets.push_back(at);
  offsets.push_back(bytes.size());
  text made;
  for (std::int64_t i = 0; i < picked.count; ++i) {
    const auto at = static_cast<std::size_t>(picked.first + i * step);
    made.append(source, offsets[at], offsets[at + 1]);
  }
  return string(std::move(made));
}

value renderer::slice_list(const sequence& source, const std::int64_t* start, const std::int64_t* stop,
                           std::int64_t step) {
  const progression picked = slice_positions(source.items.size(), start, stop, step);
  std::vector<value> items;
  for (std::int64_t i = 0; i < picked.count; ++i)
    items.push_back(source.items[static_cast<std::size_t>(picked.first + i * step)]);
  return list(std::move(items), source.kind);
}

value renderer::evaluate_slice(const expression& node) {
  const value subject = evaluate(*node.operands[0]);
  std::int64_t bounds[3] = {0, 0, 1};
  bool given[3] = {false, false, false};
  bool usable = true;
  for (std::size_t i = 0; i < 3; ++i) {
    if (!node.operands[i + 1]) continue;
    const value bound = evaluate(*node.operands[i + 1]);
    if (bound.is_none()) continue;
    given[i] = bound.as_integer().has_value();
    usable = usable && given[i];
    if (given[i]) bounds[i] = *bound.as_integer();
  }
  cost.at(node.line);
  if (subject.is_undefined()) fail_undefined(subject);
  const bool sliceable = subject.str() || (subject.seq() && subject.seq()->kind <= sequence_kind::range);
  if (!sliceable || !usable) fail(std::string(subject.type_name()).append(" has no such slice"));
  if (bounds[2] == 0) fail("a slice's step cannot be zero");
  const std::int64_t* start = given[0] ? &bounds[0] : nullptr;
  const std::int64_t* stop = given[1] ? &bounds[1] : nullptr;
  return subject.str() ? slice_text(*subject.str(), start, stop, bounds[2])
                       : slice_list(*subject.seq(), start, stop, bounds[2]);
}

}  // namespace troupe::models::jinja
