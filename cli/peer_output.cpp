// Figures out of the output of benchmark programs.
#include "cli/peer_output.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <sstream>
#include <string_view>
#include <vector>

#include "cli/json_lines.hpp"

namespace troupe::cli {
namespace {

error unreadable(std::string why) { return {errc::internal, std::move(why), {}}; }

result<measured> checked(double tokens_per_s, double share) {
  if (!std::isfinite(tokens_per_s) || tokens_per_s <= 0)
    return unreadable("it printed a speed that is no positive number");
  return measured{tokens_per_s, share};
}

/// NaN where there is none.
double number(const named_numbers& from, std::string_view name) {
  const auto found = from.find(name);
  return found == from.end() ? std::nan("") : found->second.front();
}

/// The cells of a line "| a | b |", trimmed; none where the line is no row.
std::vector<std::string> cells_of(const std::string& line) {
  std::vector<std::string> cells;
  if (!line.starts_with('|')) return cells;
  std::istringstream in(line.substr(1));
  for (std::string cell; std::getline(in, cell, '|');) {
    const auto first = cell.find_first_not_of(' '), last = cell.find_last_not_of(' ');
    cells.push_back(first == cell.npos ? std::string() : cell.substr(first, last - first + 1));
  }
  return cells;
}

}  // namespace

result<measured> read_troupe_bench(const child_output& from, const bench_test&) {
  auto rows = read_numbers("[" + from.out + "]");
  if (!rows || rows->size() != 1) return unreadable("it did not print one row of JSON");
  return checked(number(rows->front(), "tokens_per_s"), number(rows->front(), "share_of_limit"));
}

result<measured> read_llama_bench(const child_output& from, const bench_test& test) {
  // Some builds print other lines before the array.
  const auto start = from.out.starts_with('[') ? 0 : from.out.find("\n[");
  if (start == from.out.npos) return unreadable("it printed no JSON");
  auto rows = read_numbers(std::string_view(from.out).substr(start));
  if (!rows) return unreadable("it printed no JSON array: " + rows.why().text);
  for (named_numbers& row : *rows) {
    if (number(row, "n_prompt") != test.prompt || number(row, "n_gen") != test.generate) continue;
    auto samples = row.find("samples_ts");
    if (samples == row.end()) return unreadable("its JSON has no samples_ts");
    auto& speeds = samples->second;
    std::sort(speeds.begin(), speeds.end());
    return checked(speeds[speeds.size() / 2], 0);
  }
  return unreadable("its JSON has no row for " + test.name());
}

result<measured> read_batched_bench(const child_output& from, const bench_test& test) {
  std::istringstream lines(from.out + "\n" + from.err);
  std::vector<std::string> head;
  for (std::string line; std::getline(lines, line);) {
    const auto cells = cells_of(line);
    if (std::find(cells.begin(), cells.end(), "S_TG t/s") != cells.end()) head = cells;
    if (head.empty() || cells.size() != head.size()) continue;
    const auto cell = [&](std::string_view name) {
      const auto at = std::find(head.begin(), head.end(), name);
      return at == head.end() ? 0 : std::strtod(cells[static_cast<std::size_t>(at - head.begin())].c_str(), nullptr);
    };
    if (cell("TG") == test.generate && cell("B") == test.batch) return checked(cell("S_TG t/s"), 0);
  }
  return unreadable("its table has no row for " + std::to_string(test.batch) + " sequences of " +
                    std::to_string(test.generate) + " tokens");
}

}  // namespace troupe::cli
