// Runs pip and reads its installation report (pip's documentation, "Installation Report").
#include "models/catalogue/python_package.hpp"

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <simdjson.h>

extern char** environ;

namespace troupe::models {
namespace {

constexpr std::size_t most_output = 8 << 20;
constexpr auto patience = std::chrono::minutes(2);

struct pipe_ends {
  pipe_ends() {
    if (pipe2(fds.data(), O_CLOEXEC) != 0) fds = {-1, -1};
  }
  ~pipe_ends() {
    close_end(0);
    close_end(1);
  }
  pipe_ends(const pipe_ends&) = delete;
  pipe_ends& operator=(const pipe_ends&) = delete;
  void close_end(int which) {
    if (fds[which] >= 0) close(fds[which]);
    fds[which] = -1;
  }
  std::array<int, 2> fds{-1, -1};
};

struct finished {
  std::string out;
  std::string err;
  int status = -1;
  bool in_time = true;
};

/// Reads both pipes until they close, a limit is reached or patience ends. False where the child should be ended.
bool drain(finished& child, pipe_ends& out, pipe_ends& err) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  std::array<pollfd, 2> ends{{{out.fds[0], POLLIN, 0}, {err.fds[0], POLLIN, 0}}};
  while (ends[0].fd >= 0 || ends[1].fd >= 0) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    const int ready = left.count() > 0 ? poll(ends.data(), ends.size(), static_cast<int>(left.count())) : 0;
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return child.in_time = false;
    for (std::size_t i = 0; i < ends.size(); ++i) {
      if (ends[i].fd < 0 || ends[i].revents == 0) continue;
      std::array<char, 4096> piece;
      const auto count = read(ends[i].fd, piece.data(), piece.size());
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) {
        ends[i].fd = -1;  // poll passes over negative ones
        continue;
      }
      auto& text = i == 0 ? child.out : child.err;
      if (text.size() > most_output) return false;
      text.append(piece.data(), static_cast<std::size_t>(count));
    }
  }
  return true;
}

result<finished> run(const std::array<const char*, 12>& arguments) {
  pipe_ends out, err;
  if (out.fds[0] < 0 || err.fds[0] < 0) return error{errc::io, "no pipe for python3: out of file descriptors", ""};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, out.fds[1], STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, err.fds[1], STDERR_FILENO);
  pid_t child = 0;
  // exec's signature predates const; it does not write to the arguments.
  const int failed =
      posix_spawnp(&child, arguments[0], &actions, nullptr, const_cast<char**>(arguments.data()), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed != 0)
    return error{errc::not_found,
                 std::string("cannot run python3, whose pip finds the package: ") + std::strerror(failed), ""};
  out.close_end(1);
  err.close_end(1);
  finished done;
  if (!drain(done, out, err)) kill(child, SIGKILL);
  while (waitpid(child, &done.status, 0) < 0 && errno == EINTR) {
  }
  return done;
}

std::string last_line(std::string_view text) {
  const auto end = text.find_last_not_of(" \r\n");
  if (end == text.npos) return "no reason given";
  const auto before = text.find_last_of('\n', end);
  return std::string(text.substr(before == text.npos ? 0 : before + 1, end - (before == text.npos ? -1 : before)));
}

}  // namespace

result<std::string> address_in_pip_report(std::string_view json) {
  simdjson::dom::parser parser;
  simdjson::dom::element report;
  std::string_view url;
  if (parser.parse(json.data(), json.size()).get(report) != simdjson::SUCCESS ||
      report["install"].at(0)["download_info"]["url"].get(url) != simdjson::SUCCESS)
    return error{errc::network, "pip's report names no address", ""};
  return std::string(url);
}

result<std::string> address_of_wheel(std::string_view package, std::string_view version) {
  const std::string wanted = std::string(package) + "==" + std::string(version);
  const auto done = run({"python3", "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-deps", "--quiet",
                         "--report", "-", wanted.c_str(), nullptr});
  if (!done.ok()) return done.why();
  if (!done->in_time) return error{errc::network, "pip found no address for " + wanted + " within two minutes", ""};
  if (!WIFEXITED(done->status) || WEXITSTATUS(done->status) != 0)
    return error{errc::network, "pip could not find " + wanted + " (is the network there?): " + last_line(done->err),
                 ""};
  return address_in_pip_report(done->out);
}

}  // namespace troupe::models
