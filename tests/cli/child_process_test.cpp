// Children that end well, badly, or not at all.
#include "cli/child_process.hpp"

#include <csignal>

#include <cstdlib>
#include <thread>

#include "support/catch.hpp"
#include "support/scratch_directory.hpp"

namespace troupe::cli {
namespace {

using namespace std::chrono_literals;

result<child_output> shell(const std::string& script, std::chrono::milliseconds limit = 60s) {
  return run_child({{"/bin/sh", "-c", script}, "/", limit});
}

bool alive(pid_t pid) { return kill(pid, 0) == 0; }

}  // namespace

TEST_CASE("both streams of a child are read, however long each is") {
  auto done = shell(
      "i=0; while [ $i -lt 3000 ]; do echo 0123456789012345678901234567890123456789; echo err$i >&2; i=$((i+1)); done");
  REQUIRE(done.ok());
  CHECK(done->out.size() == 3000 * 41);
  CHECK(done->err.ends_with("err2999\n"));
}

TEST_CASE("a child gets its arguments as they are, no input, and the directory it was given") {
  auto done = run_child({{"/bin/sh", "-c", "pwd; cat; echo \"$1\"", "name", "two words; 'quoted'"}, "/usr", 60s});
  REQUIRE(done.ok());
  CHECK(done->out == "/usr\ntwo words; 'quoted'\n");
}

TEST_CASE("a child's bad end is told with its last words") {
  auto status = shell("echo first >&2; echo 'no such option' >&2; exit 3");
  REQUIRE_FALSE(status.ok());
  CHECK(status.why().code == errc::internal);
  CHECK(status.why().text == "/bin/sh ended with status 3: no such option");
  auto crash = shell("kill -SEGV $$");
  REQUIRE_FALSE(crash.ok());
  CHECK(crash.why().text.find("signal 11") != std::string::npos);
}

TEST_CASE("a program that is not there, or that nobody may run, is said to be missing") {
  auto missing = run_child({{"/nowhere/llama-bench"}, "/", 60s});
  REQUIRE_FALSE(missing.ok());
  CHECK(missing.why().code == errc::not_found);
  CHECK(missing.why().text.find("/nowhere/llama-bench") != std::string::npos);
  CHECK(run_child({{"/etc/passwd"}, "/", 60s}).why().code == errc::not_found);
}

TEST_CASE("a child that hangs is killed with what it started, quiet or talking") {
  const test::scratch_directory folder;
  const auto note = folder.path / "pid";
  auto quiet = shell("sleep 1000 & echo $! > " + note.string() + "; wait", 300ms);
  REQUIRE_FALSE(quiet.ok());
  CHECK(quiet.why().code == errc::deadline_exceeded);
  CHECK(shell("while true; do echo still here; done", 20ms).why().text.find("was stopped") != std::string::npos);

  const auto pid = static_cast<pid_t>(std::atoi(shell("cat " + note.string())->out.c_str()));
  REQUIRE(pid > 0);
  while (alive(pid)) std::this_thread::yield();  // init has yet to bury it
}

TEST_CASE("a child that leaves something running behind holds nobody up") {
  auto done = shell("echo here; sleep 1000 & exit 0");
  REQUIRE(done.ok());
  CHECK(done->out == "here\n");
}

TEST_CASE("a child that never stops printing is stopped") {
  auto flood = shell("yes", 60s);
  REQUIRE_FALSE(flood.ok());
  CHECK(flood.why().text.find("16 MiB") != std::string::npos);
}

}  // namespace troupe::cli
