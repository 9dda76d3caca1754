// log: what reaches stderr, read back through a pipe put in its place.
#include <algorithm>
#include <string>

#include <unistd.h>

#include "base/log.hpp"
#include "support/catch.hpp"

namespace {

using namespace troupe::base;

/// What `action` writes to stderr; at most what a pipe holds.
template <class Action>
std::string stderr_of(Action action) {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const int kept = dup(STDERR_FILENO);
  dup2(ends[1], STDERR_FILENO);
  action();
  dup2(kept, STDERR_FILENO);
  close(kept);
  close(ends[1]);
  std::string text(4096, '\0');
  const auto count = read(ends[0], text.data(), text.size());
  close(ends[0]);
  text.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
  return text;
}

}  // namespace

TEST_CASE("one event is one line, whatever the text holds") {
  const auto line = stderr_of([] { log(log_level::warning, "scheduler", "two\nlines \x1b[31m {} %s"); });
  CHECK(std::count(line.begin(), line.end(), '\n') == 1);
  CHECK(line.find("warning scheduler: two lines  [31m {} %s\n") != std::string::npos);
}

TEST_CASE("what is below the level is dropped") {
  set_log_level(log_level::error);
  CHECK(current_log_level() == log_level::error);
  CHECK(stderr_of([] { log(log_level::warning, "a", "b"); }).empty());
  CHECK_FALSE(stderr_of([] { log(log_level::error, "a", "b"); }).empty());
  set_log_level(log_level::info);
}

TEST_CASE("levels have names, and other names are none") {
  CHECK(log_level_of("warn") == log_level::warning);
  CHECK(log_level_of("off") == log_level::off);
  CHECK_FALSE(log_level_of("loud"));
}
