// Reads reference lines with simdjson.
#include "tests/models/llama/reference_lines.hpp"

#include <simdjson.h>

namespace troupe::test {
namespace {

template <class T>
std::vector<T> numbers(simdjson::dom::element line, const char* key) {
  std::vector<T> values;
  simdjson::dom::array array;
  if (line[key].get(array) != simdjson::SUCCESS) return values;
  for (const auto number : array) values.push_back(static_cast<T>(number.get_double().value()));
  return values;
}

}  // namespace

std::vector<reference_line> read_reference(const std::string& path) {
  std::vector<reference_line> lines;
  simdjson::dom::parser parser;
  simdjson::dom::document_stream documents;
  if (parser.load_many(path, 16 << 20).get(documents) != simdjson::SUCCESS) return lines;
  for (auto document : documents) {
    simdjson::dom::element line;
    if (document.get(line) != simdjson::SUCCESS) return {};
    reference_line& out = lines.emplace_back();
    out.ids = numbers<std::int32_t>(line, "ids");
    out.greedy = numbers<std::int32_t>(line, "greedy");
    out.margin = numbers<float>(line, "margin");
    if (line["nll"].get(out.nll) != simdjson::SUCCESS) out.nll = 0;
    simdjson::dom::array positions;
    if (line["top"].get(positions) != simdjson::SUCCESS) continue;
    for (const auto position : positions) {
      scored& best = out.top.emplace_back();
      const simdjson::dom::array pairs = position.get_array().value();  // a name: range for would not keep it alive
      for (const auto pair : pairs) {
        best.emplace_back(static_cast<std::int32_t>(pair.at(0).get_int64().value()),
                          static_cast<float>(pair.at(1).get_double().value()));
      }
    }
  }
  return lines;
}

}  // namespace troupe::test
