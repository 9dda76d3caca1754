// The nearest name by the number of letters to change.
#include "cli/usage_error.hpp"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <numeric>
#include <vector>

namespace troupe::cli {
namespace {

/// Letters to add, drop or replace (Levenshtein).
std::size_t distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0u);
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t before = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = before + (a[i - 1] != b[j - 1]);
      before = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row.back();
}

std::string nearest(const std::string& word, const std::vector<std::string>& names) {
  std::string best;
  std::size_t least = 1 + std::max<std::size_t>(1, word.size() / 3);
  for (const auto& name : names)
    if (const auto d = distance(word, name); d < least) {
      least = d;
      best = name;
    }
  return best.empty() ? best : ": did you mean " + best + "?";
}

const CLI::App& deepest(const CLI::App& app) {
  const auto chosen = app.get_subcommands();
  return chosen.empty() ? app : deepest(*chosen.front());
}

std::string path_of(const CLI::App& app) {
  return app.get_parent() ? path_of(*app.get_parent()) + " " + app.get_name() : app.get_name();
}

std::string unknown_option(const CLI::App& command, const std::string& word) {
  std::vector<std::string> names;
  for (const auto* option : command.get_options())
    for (const auto& name : option->get_lnames()) names.push_back("--" + name);
  return "there is no option " + word + nearest(word.substr(0, word.find('=')), names);
}

std::string unknown_command(const CLI::App& command, const std::string& word) {
  std::vector<std::string> names;
  for (const auto* sub : command.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(sub->get_name());
  return "there is no command " + word + nearest(word, names);
}

}  // namespace

std::string usage_error(const CLI::App* app, const CLI::Error& e) {
  const auto& command = deepest(*app);
  auto words = app->remaining(true);
  const auto option = std::find_if(words.begin(), words.end(),
                                   [](const std::string& word) { return word.size() > 1 && word[0] == '-'; });
  const bool wants_command = command.get_require_subcommand_min() > 0;
  std::string what = e.what();
  if (option != words.end()) what = unknown_option(command, *option);
  else if (!words.empty() && wants_command) what = unknown_command(command, words.front());
  else if (!words.empty()) what = "\"" + words.front() + "\" is one word too many";
  else if (wants_command && e.get_name() == "RequiredError") return command.help();
  return path_of(command) + ": " + what + "\nRun `" + path_of(command) + " --help` for options and examples.\n";
}

}  // namespace troupe::cli
