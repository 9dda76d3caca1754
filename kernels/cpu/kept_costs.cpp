// Writes and reads lines.
#include "kernels/cpu/kept_costs.hpp"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <optional>

#include "base/log.hpp"
#include "base/machine.hpp"
#include "base/topology.hpp"

namespace troupe::kernels {
namespace {

using memory::dtype;

/// Raised whenever products come to take another time than they did: nothing measured before is believed.
constexpr std::string_view heading = "troupe product costs 1\n";
constexpr std::size_t most_text = 64 << 10;

/// FNV-1a (Fowler, Noll, Vo).
std::string sum_of(std::string_view text) {
  std::uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  char digits[24];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(hash));
  return digits;
}

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

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(most_text, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(std::max<std::streamsize>(0, file.gcount())));
  return text;
}

/// Whole or not at all: what a process that is killed leaves behind is written over by the next one.
result<void> keep(const std::string& text, const memory::copy_folder& folder, const std::string& path) {
  if (auto room = folder.make_room(static_cast<std::int64_t>(text.size()), path); !room) return room;
  const std::string part = path + ".part";
  std::ofstream file(part, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (file && std::rename(part.c_str(), path.c_str()) == 0) return {};
  std::remove(part.c_str());
  return error{errc::io, path + ": cannot be written", {}};
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
  std::string text(heading);
  text += std::string(fingerprint) + "\n";
  for (const way_cost& one : costs)
    text += std::string(memory::info(one.type).name) + " " + std::to_string(one.rows) + " " +
            std::string(to_string(one.way.set)) + "/" + std::to_string(one.way.together) + " " +
            std::to_string(one.nanoseconds) + "\n";
  return text + "sum " + sum_of(text) + "\n";
}

std::vector<way_cost> costs_of(std::string_view text, std::string_view fingerprint) {
  const auto end = text.rfind("sum ");
  if (end == text.npos || text.substr(end) != "sum " + sum_of(text.substr(0, end)) + "\n") return {};
  std::string_view lines = text.substr(0, end);
  if (!lines.starts_with(heading)) return {};
  lines.remove_prefix(heading.size());
  if (take(lines, '\n') != fingerprint) return {};
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
  return folder.path_of("products-" + sum_of(fingerprint), "costs");
}

known_costs costs_for(std::span<const dtype> types, std::string_view fingerprint, const memory::copy_folder& folder,
                      const cost_meter& measure, bool anew) {
  known_costs known;
  const std::string path = folder.wanted() ? costs_path(folder, fingerprint) : "";
  if (!path.empty() && !anew) known.costs = costs_of(read_text(path), fingerprint);
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
  const auto kept = keep(text_of(fingerprint, known.costs), folder, path);
  base::log(
      base::log_level::debug, "lane",
      kept ? "what products cost here is kept in " + path : "what products cost here is not kept: " + kept.why().text);
  return known;
}

}  // namespace troupe::kernels
