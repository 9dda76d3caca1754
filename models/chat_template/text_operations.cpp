// Works run by run or by slices, so that each character keeps its origin.
#include "models/chat_template/text_operations.hpp"

#include "models/chat_template/printing.hpp"

namespace troupe::models::jinja {
namespace {

// Rewrites code point by code point; rewrite(run, at, point, out) appends what takes its place.
template <class Rewrite>
text rewritten(renderer& run, const text& source, Rewrite rewrite) {
  run.cost.text_bytes(source.size());
  text made;
  source.for_each_run([&](std::string_view bytes, bool trusted) {
    std::string piece;
    for (std::size_t at = 0; at < bytes.size();) {
      const code_point point = decode_at(bytes, at);
      rewrite(bytes, at, point, piece);
      at += point.bytes;
    }
    made.append(piece, trusted);
  });
  return made;
}

// Replacing nothing puts `added` before every character and at the end, as in Python.
text interleaved(renderer& run, const text& source, const text& added, std::int64_t limit) {
  text made;
  for (std::size_t at = 0; at <= source.size();) {
    if (limit != 0) {
      run.cost.text_size(made.size() + added.size());
      run.cost.step(1 + added.size() / 64);
      made.append(added);
      --limit;
    }
    if (at == source.size()) break;
    const std::size_t next = at + decode_at(source.view(), at).bytes;
    made.append(source, at, next);
    at = next;
  }
  return made;
}

}  // namespace

text stripped(const text& source, const value* chars, renderer& run, strip_side side) {
  if (chars && !chars->str())
    run.fail(std::string("characters to strip are a string, not ") + std::string(chars->type_name()));
  const std::string_view set = chars ? chars->str()->view() : std::string_view();
  if (set.size() > 1024) run.fail("too many characters to strip");
  const byte_range kept = strip_range(source.view(), chars ? &set : nullptr, side);
  return source.slice(kept.begin, kept.end);
}

text in_case(renderer& run, const text& source, letter_case wanted) {
  return rewritten(run, source, [&](std::string_view bytes, std::size_t at, code_point point, std::string& out) {
    append_in_case(bytes, at, point, wanted, out);
  });
}

text titled(renderer& run, const text& source, bool (*starts_word)(char32_t, char32_t)) {
  char32_t previous = ' ';
  return rewritten(run, source, [&](std::string_view bytes, std::size_t at, code_point point, std::string& out) {
    append_in_case(bytes, at, point, starts_word(previous, point.symbol) ? letter_case::title : letter_case::lower,
                   out);
    previous = point.symbol;
  });
}

text capitalized(renderer& run, const text& source) {
  bool first = true;
  return rewritten(run, source, [&](std::string_view bytes, std::size_t at, code_point point, std::string& out) {
    append_in_case(bytes, at, point, std::exchange(first, false) ? letter_case::title : letter_case::lower, out);
  });
}

text replaced(renderer& run, const text& source, const text& from, const text& to, std::int64_t limit) {
  const std::string_view bytes = source.view();
  run.cost.text_bytes(bytes.size());
  if (from.empty()) return interleaved(run, source, to, limit);
  text made;
  std::size_t at = 0;
  for (; limit != 0; --limit) {
    const std::size_t found = bytes.find(from.view(), at);
    if (found == std::string_view::npos) break;
    made.append(source, at, found);
    run.cost.text_size(made.size() + to.size());
    run.cost.step(to.size() / 64);
    made.append(to);
    at = found + from.size();
  }
  made.append(source, at, bytes.size());
  run.cost.text_size(made.size());
  return made;
}

text joined(renderer& run, const text& separator, const std::vector<value>& parts) {
  text made;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) made.append(separator);
    run.cost.step(1 + separator.size() / 64);
    append_str(run.cost, parts[i], made);
  }
  return made;
}

std::vector<text> lines_of(const text& source, bool keep_ends) {
  std::vector<text> lines;
  const std::string_view bytes = source.view();
  std::size_t begin = 0;
  for (std::size_t at = 0; at < bytes.size();) {
    const code_point point = decode_at(bytes, at);
    const std::size_t line_end = at;
    at += point.bytes;
    if (!is_line_break(point.symbol)) continue;
    if (point.symbol == '\r' && at < bytes.size() && bytes[at] == '\n') ++at;
    lines.push_back(source.slice(begin, keep_ends ? at : line_end));
    begin = at;
  }
  if (begin < bytes.size()) lines.push_back(source.slice(begin, bytes.size()));
  return lines;
}

}  // namespace troupe::models::jinja
