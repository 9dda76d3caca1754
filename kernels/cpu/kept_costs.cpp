// Writes and reads lines.
#include "kernels/cpu/kept_costs.hpp"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>

#include "base/log.hpp"
#include "base/machine.hpp"
#include "base/topology.hpp"
#include "memory/kept_text.hpp"

namespace troupe::kernels {
namespace {

using memory::dtype;

/// Raised whenever products come to take another time than they did: nothing measured before is believed.
constexpr std::string_view heading = "troupe product costs 1";

/// Up to `end`, which is passed over; nothing where there is none.
std::optional<std::string_view> take(std::string_view& text, char end) {
  const auto at = text.find(end);
  if (at == text.npos) return std::nullopt;
  const auto word = text.substr(0, at);
  text.remove_prefix(at + 1);
  return word;
}

template <class Number>
std::optional<Number> positive(std::optional<std::string_view> word) {
  Number value = 0;
  if (!word || std::from_chars(word->data(), word->data() + word->size(), value).ptr != word->data() + word->size() ||
      value <= 0)
    return std::nullopt;
  return value;
}

std::optional<dtype> type_named(std::string_view name) {
  for (int i = 0; i < static_cast<int>(dtype::i32); ++i)
    if (memory::info(static_cast<dtype>(i)).name == name) return static_cast<dtype>(i);
  return std::nullopt;
}

std::optional<way_cost> cost_in(std::string_view line) {
  const auto type_word = take(line, ' ');
  const auto type = type_word ? type_named(*type_word) : std::nullopt;
  const auto rows = positive<std::int32_t>(take(line, ' '));
  const auto set_word = take(line, '/');
  const auto set = set_word ? parse_isa(*set_word) : std::nullopt;
  const auto together = positive<std::int32_t>(take(line, ' '));
  const auto nanoseconds = positive<std::int64_t>(line);
  if (!type || !rows || !set || !together || !nanoseconds) return std::nullopt;
  return way_cost{*type, *rows, {*set, *together}, *nanoseconds};
}

}  // namespace

std::string fingerprint(int threads, std::span<const isa> usable) {
  std::string line = base::read_processor() + ";";
  for (const isa one : usable) line += " " + std::string(to_string(one));
  line += "; " + std::to_string(threads) + " threads of " + std::to_string(base::allowed_cpus().size()) + "; " +
          __VERSION__;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(NDEBUG)
  line += ", checked";
#endif
  std::replace(line.begin(), line.end(), '\n', ' ');
  return line;
}

std::string text_of(std::string_view fingerprint, std::span<const way_cost> costs) {
  std::string lines;
  for (const way_cost& one : costs)
    lines += std::string(memory::info(one.type).name) + " " + std::to_string(one.rows) + " " +
             std::string(to_string(one.way.set)) + "/" + std::to_string(one.way.together) + " " +
             std::to_string(one.nanoseconds) + "\n";
  return memory::kept_text(heading, fingerprint, lines);
}

std::vector<way_cost> costs_of(std::string_view text, std::string_view fingerprint) {
  const auto kept = memory::lines_of(text, heading, fingerprint);
  std::string_view lines = kept ? std::string_view(*kept) : std::string_view();
  std::vector<way_cost> costs;
  while (!lines.empty()) {
    const auto line = take(lines, '\n');
    const auto cost = line ? cost_in(*line) : std::nullopt;
    if (!cost) return {};
    costs.push_back(*cost);
  }
  return costs;
}

std::string costs_path(const memory::copy_folder& folder, std::string_view fingerprint) {
  return folder.path_of("products-" + memory::digest(fingerprint), "costs");
}

known_costs costs_for(std::span<const dtype> types, std::string_view fingerprint, const memory::copy_folder& folder,
                      const cost_meter& measure, bool anew) {
  known_costs known;
  const std::string path = folder.wanted() ? costs_path(folder, fingerprint) : "";
  if (!path.empty() && !anew) known.costs = costs_of(memory::read_kept(path), fingerprint);
  for (const dtype type : types) {
    if (std::any_of(known.costs.begin(), known.costs.end(), [&](const way_cost& one) { return one.type == type; }))
      continue;
    const auto costs = measure(type);
    known.costs.insert(known.costs.end(), costs.begin(), costs.end());
    known.measured = known.measured || !costs.empty();
  }
  if (path.empty()) return known;
  if (!known.measured) {
    memory::copy_folder::mark_used(path);
    return known;
  }
  const auto kept = memory::keep_text(text_of(fingerprint, known.costs), folder, path);
  base::log(
      base::log_level::debug, "lane",
      kept ? "what products cost here is kept in " + path : "what products cost here is not kept: " + kept.why().text);
  return known;
}

}  // namespace troupe::kernels
