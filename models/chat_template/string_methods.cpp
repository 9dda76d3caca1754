// Methods of strings: "x".strip(), .split(), .startswith() and so on.
#include <algorithm>

#include "models/chat_template/format_text.hpp"
#include "models/chat_template/method_tables.hpp"
#include "models/chat_template/text_operations.hpp"

namespace troupe::models::jinja {
namespace {

using given = const bound_arguments&;

template <strip_side side>
value strip(renderer& run, const value& self, given arguments) {
  return run.string(stripped(*self.str(), arguments.some(0), run, side));
}
template <letter_case wanted>
value change_case(renderer& run, const value& self, given) {
  return run.string(in_case(run, *self.str(), wanted));
}

value title(renderer& run, const value& self, given) {
  return run.string(titled(run, *self.str(), [](char32_t previous, char32_t) { return !is_alpha(previous); }));
}
value capitalize(renderer& run, const value& self, given) { return run.string(capitalized(run, *self.str())); }

value replace(renderer& run, const value& self, given arguments) {
  return run.string(
      replaced(run, *self.str(), arguments.required_text(0), arguments.required_text(1), arguments.integer_or(2, -1)));
}

value pieces(renderer& run, std::vector<text> parts) {
  std::vector<value> items;
  for (text& part : parts) items.push_back(run.string(std::move(part)));
  return run.list(std::move(items));
}

std::vector<text> split_at(const text& source, std::string_view separator, std::int64_t limit) {
  std::vector<text> parts;
  std::size_t at = 0;
  for (; limit != 0; --limit) {
    const std::size_t found = source.view().find(separator, at);
    if (found == std::string_view::npos) break;
    parts.push_back(source.slice(at, found));
    at = found + separator.size();
  }
  parts.push_back(source.slice(at, source.size()));
  return parts;
}

std::vector<text> split_at_blanks(const text& source, std::int64_t limit) {
  std::vector<text> parts;
  text rest = source.slice(strip_range(source.view(), nullptr, strip_side::left).begin, source.size());
  const std::string_view bytes = rest.view();
  std::size_t begin = 0;
  while (begin < bytes.size()) {
    std::size_t end = begin;
    if (limit == 0) {
      end = strip_range(bytes, nullptr, strip_side::right).end;
    } else {
      while (end < bytes.size() && !is_space(decode_at(bytes, end).symbol)) end += decode_at(bytes, end).bytes;
    }
    --limit;
    parts.push_back(rest.slice(begin, end));
    begin = end;
    while (begin < bytes.size() && is_space(decode_at(bytes, begin).symbol)) begin += decode_at(bytes, begin).bytes;
  }
  return parts;
}

value split(renderer& run, const value& self, given arguments) {
  run.cost.step(1 + self.str()->size() / 64);
  const std::int64_t limit = arguments.integer_or(1, -1);
  if (!arguments.some(0)) return pieces(run, split_at_blanks(*self.str(), limit));
  const text& separator = arguments.required_text(0);
  if (separator.empty()) run.fail("split() needs a separator that is not empty");
  return pieces(run, split_at(*self.str(), separator.view(), limit));
}

value rsplit(renderer& run, const value& self, given arguments) {
  const std::int64_t limit = arguments.integer_or(1, -1);
  if (limit < 0) return split(run, self, arguments);
  const text& separator = arguments.required_text(0);
  if (separator.empty()) run.fail("rsplit() needs a separator that is not empty");
  std::vector<text> parts;
  std::size_t end = self.str()->size();
  for (std::int64_t left = limit; left > 0 && end >= separator.size(); --left) {
    const std::size_t found = self.str()->view().substr(0, end).rfind(separator.view());
    if (found == std::string_view::npos) break;
    parts.push_back(self.str()->slice(found + separator.size(), end));
    end = found;
  }
  parts.push_back(self.str()->slice(0, end));
  std::reverse(parts.begin(), parts.end());
  return pieces(run, std::move(parts));
}

value splitlines(renderer& run, const value& self, given arguments) {
  run.cost.step(1 + self.str()->size() / 64);
  return pieces(run, lines_of(*self.str(), arguments.flag_or(0, false)));
}

// Whether `matches` holds for the argument, or for one of a tuple.
template <class Matches>
value any_affix(renderer& run, given arguments, Matches matches) {
  const value& affix = arguments.required(0);
  if (affix.str()) return value::boolean(matches(affix.str()->view()));
  if (!affix.seq() || affix.seq()->kind != sequence_kind::tuple) run.fail("expected a string or a tuple of strings");
  bool found = false;
  for (const value& one : affix.seq()->items) {
    if (!one.str()) run.fail("expected a tuple of strings");
    found = found || matches(one.str()->view());
  }
  return value::boolean(found);
}

// [start:end] of the optional arguments, in bytes.
byte_range window(const text& source, given arguments, std::size_t first) {
  const std::string_view bytes = source.view();
  const auto count = static_cast<std::int64_t>(count_code_points(bytes));
  const auto place = [&](std::int64_t index) {
    if (index < 0) index = std::max<std::int64_t>(0, index + count);
    return index > count ? bytes.size() + 1 : byte_offset(bytes, static_cast<std::size_t>(index));
  };
  const std::size_t begin = place(arguments.some(first) ? arguments.integer_or(first, 0) : 0);
  const std::size_t end =
      std::min(place(arguments.some(first + 1) ? arguments.integer_or(first + 1, 0) : count), bytes.size());
  return {begin, end};
}

template <bool start>
value has_affix(renderer& run, const value& self, given arguments) {
  run.cost.step(1 + self.str()->size() / 64);
  const byte_range in = window(*self.str(), arguments, 1);
  return any_affix(run, arguments, [&](std::string_view affix) {
    if (in.begin > in.end) return false;
    const std::string_view part = self.str()->view().substr(in.begin, in.end - in.begin);
    return start ? part.starts_with(affix) : part.ends_with(affix);
  });
}

template <bool prefix>
value remove_affix(renderer& run, const value& self, given arguments) {
  const text& affix = arguments.required_text(0);
  const std::string_view bytes = self.str()->view();
  if (prefix && bytes.starts_with(affix.view())) return run.string(self.str()->slice(affix.size(), bytes.size()));
  if (!prefix && bytes.ends_with(affix.view())) return run.string(self.str()->slice(0, bytes.size() - affix.size()));
  return self;
}

template <bool from_right, bool must>
value find(renderer& run, const value& self, given arguments) {
  const std::string_view needle = arguments.required_text(0).view();
  run.cost.step(1 + self.str()->size() / 64);
  const byte_range in = window(*self.str(), arguments, 1);
  std::size_t found = std::string_view::npos;
  if (in.begin <= in.end) {
    const std::string_view part = self.str()->view().substr(in.begin, in.end - in.begin);
    found = from_right ? part.rfind(needle) : part.find(needle);
  }
  if (found == std::string_view::npos && must) run.fail("the text to find is not there");
  if (found == std::string_view::npos) return value::integer(-1);
  return value::integer(static_cast<std::int64_t>(count_code_points(self.str()->view().substr(0, in.begin + found))));
}

value count(renderer& run, const value& self, given arguments) {
  const std::string_view needle = arguments.required_text(0).view(), bytes = self.str()->view();
  run.cost.step(1 + bytes.size() / 64);
  if (needle.empty()) return value::integer(static_cast<std::int64_t>(count_code_points(bytes)) + 1);
  std::int64_t times = 0;
  for (std::size_t at = bytes.find(needle); at != std::string_view::npos; at = bytes.find(needle, at + needle.size()))
    ++times;
  return value::integer(times);
}

value join(renderer& run, const value& self, given arguments) {
  const auto parts = run.elements(arguments.required(0));
  for (const value& part : parts->items)
    if (!part.str()) run.fail(std::string("join() needs strings, not ") + std::string(part.type_name()));
  return run.string(joined(run, *self.str(), parts->items));
}

value format(renderer& run, const value& self, given arguments) {
  return run.string(format_braces(run, *self.str(), arguments.all()));
}

template <bool (*is_one)(char32_t)>
value all_are(renderer& run, const value& self, given) {
  const std::string_view bytes = self.str()->view();
  run.cost.step(1 + bytes.size() / 64);
  for (std::size_t at = 0; at < bytes.size(); at += decode_at(bytes, at).bytes)
    if (!is_one(decode_at(bytes, at).symbol)) return value::boolean(false);
  return value::boolean(!bytes.empty());
}
bool is_alpha_or_digit(char32_t symbol) { return is_alpha(symbol) || is_digit(symbol); }

value is_cased(renderer& run, const value& self, std::string_view test) {
  return run.apply(find_test(test), "test", test, self, {});
}
value islower(renderer& run, const value& self, given) { return is_cased(run, self, "lower"); }
value isupper(renderer& run, const value& self, given) { return is_cased(run, self, "upper"); }

constexpr builtin methods[] = {{"strip", "chars", strip<strip_side::both>},
                               {"lstrip", "chars", strip<strip_side::left>},
                               {"rstrip", "chars", strip<strip_side::right>},
                               {"upper", "", change_case<letter_case::upper>},
                               {"lower", "", change_case<letter_case::lower>},
                               {"title", "", title},
                               {"capitalize", "", capitalize},
                               {"replace", "old new count", replace},
                               {"split", "sep maxsplit", split},
                               {"rsplit", "sep maxsplit", rsplit},
                               {"splitlines", "keepends", splitlines},
                               {"startswith", "prefix start end", has_affix<true>},
                               {"endswith", "suffix start end", has_affix<false>},
                               {"removeprefix", "prefix", remove_affix<true>},
                               {"removesuffix", "suffix", remove_affix<false>},
                               {"find", "sub start end", find<false, false>},
                               {"rfind", "sub start end", find<true, false>},
                               {"index", "sub start end", find<false, true>},
                               {"rindex", "sub start end", find<true, true>},
                               {"count", "sub", count},
                               {"join", "iterable", join},
                               {"format", "*", format},
                               {"isdigit", "", all_are<is_digit>},
                               {"isalpha", "", all_are<is_alpha>},
                               {"isspace", "", all_are<is_space>},
                               {"isalnum", "", all_are<is_alpha_or_digit>},
                               {"islower", "", islower},
                               {"isupper", "", isupper}};

}  // namespace

const builtin* find_string_method(std::string_view name) {
  const auto* found =
      std::find_if(std::begin(methods), std::end(methods), [&](const builtin& one) { return one.name == name; });
  return found == std::end(methods) ? nullptr : found;
}

}  // namespace troupe::models::jinja
