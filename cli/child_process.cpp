// fork, exec and two pipes. The child gets its own process group, so that a time limit also ends what it started.
#include "cli/child_process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cctype>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <string_view>
#include <utility>

namespace troupe::cli {
namespace {

using clock = std::chrono::steady_clock;
constexpr std::size_t most_output = 16 << 20;
constexpr auto look_again = std::chrono::milliseconds(20);  // how late an end may be noticed

class descriptor {
public:
  descriptor() = default;
  explicit descriptor(int fd) : fd_(fd) {}
  descriptor(descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  descriptor& operator=(descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~descriptor() { close(); }
  int get() const noexcept { return fd_; }
  void close() noexcept {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

private:
  int fd_ = -1;
};

struct pipe_ends {
  descriptor read, write;
};

result<pipe_ends> make_pipe() {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return error{errc::internal, std::string("no pipe: ") + std::strerror(errno), {}};
  return pipe_ends{descriptor(fds[0]), descriptor(fds[1])};
}

/// In the child, between fork and exec: only what is safe there. Tells the parent through `failed` why it could not
/// start.
[[noreturn]] void become(char* const* arguments, const char* directory, int out, int err, int failed) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int nothing = open("/dev/null", O_RDONLY);
  if (nothing >= 0 && dup2(nothing, 0) == 0 && dup2(out, 1) == 1 && dup2(err, 2) == 2 && chdir(directory) == 0)
    execv(arguments[0], arguments);
  const int why = errno;
  [[maybe_unused]] const auto told = write(failed, &why, sizeof why);
  _exit(127);
}

std::string last_line(std::string_view text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) text.remove_suffix(1);
  const auto start = text.rfind('\n');
  return std::string(start == text.npos ? text : text.substr(start + 1)).substr(0, 300);
}

/// A started program. When this goes, so does what is left of it and of its group.
class child {
public:
  static result<child> start(const child_command& command) {
    auto out = make_pipe(), err = make_pipe(), failed = make_pipe();
    for (auto* made : {&out, &err, &failed})
      if (!*made) return made->why();
    std::vector<char*> arguments;
    for (const std::string& argument : command.arguments) arguments.push_back(const_cast<char*>(argument.c_str()));
    arguments.push_back(nullptr);
    const std::string directory = command.directory.string();
    const pid_t pid = fork();
    if (pid < 0) return error{errc::internal, std::string("no process: ") + std::strerror(errno), {}};
    if (pid == 0) become(arguments.data(), directory.c_str(), out->write.get(), err->write.get(), failed->write.get());
    child started(pid, std::move(out->read), std::move(err->read));
    failed->write.close();
    int why = 0;
    if (read(failed->read.get(), &why, sizeof why) == sizeof why) {
      const errc code = why == ENOENT || why == EACCES ? errc::not_found : errc::internal;
      return error{code, "cannot run " + command.arguments.front() + ": " + std::strerror(why), {}};
    }
    return started;
  }

  child(child&& other) noexcept
      : pid_(std::exchange(other.pid_, 0)), pipes_(std::move(other.pipes_)), text_(std::move(other.text_)) {}
  child& operator=(child&&) = delete;
  ~child() {
    if (pid_ == 0) return;
    kill(-pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }

  result<child_output> wait(const child_command& command) {
    const auto deadline = clock::now() + command.limit;
    const std::string name = command.arguments.front();
    siginfo_t end{};
    while (end.si_pid == 0) {
      read_some(look_again);
      if (text_[0].size() + text_[1].size() > most_output)
        return error{errc::internal, name + " printed more than 16 MiB and was stopped", {}};
      if (clock::now() > deadline)
        return error{errc::deadline_exceeded,
                     name + " was stopped: it ran longer than " +
                         std::to_string(std::chrono::duration_cast<std::chrono::seconds>(command.limit).count()) + " s",
                     {}};
      waitid(P_PID, static_cast<id_t>(pid_), &end, WEXITED | WNOHANG | WNOWAIT);  // its number stays ours until ~child
    }
    while (text_[0].size() + text_[1].size() <= most_output && read_some(std::chrono::milliseconds(0))) {
    }
    if (end.si_code == CLD_EXITED && end.si_status == 0) return child_output{std::move(text_[0]), std::move(text_[1])};
    std::string why = name;
    if (end.si_code == CLD_EXITED) why += " ended with status " + std::to_string(end.si_status);
    else why += " was ended by signal " + std::to_string(end.si_status) + " (" + strsignal(end.si_status) + ")";
    if (const std::string words = last_line(text_[1]); !words.empty()) why += ": " + words;
    return error{errc::internal, std::move(why), {}};
  }

private:
  child(pid_t pid, descriptor out, descriptor err) : pid_(pid), pipes_{std::move(out), std::move(err)} {}

  /// Waits up to `patience` for output; false: there was none.
  bool read_some(std::chrono::milliseconds patience) {
    pollfd watched[2] = {{pipes_[0].get(), POLLIN, 0}, {pipes_[1].get(), POLLIN, 0}};
    if (poll(watched, 2, static_cast<int>(patience.count())) <= 0) return false;
    bool any = false;
    for (std::size_t i = 0; i < 2; ++i) {
      if ((watched[i].revents & (POLLIN | POLLHUP)) == 0) continue;
      std::array<char, 65536> buffer;
      const auto got = read(pipes_[i].get(), buffer.data(), buffer.size());
      if (got > 0) text_[i].append(buffer.data(), static_cast<std::size_t>(got));
      if (got == 0) pipes_[i].close();
      any = any || got > 0;
    }
    return any;
  }

  pid_t pid_;
  std::array<descriptor, 2> pipes_;
  std::array<std::string, 2> text_;
};

}  // namespace

result<child_output> run_child(const child_command& command) {
  auto started = child::start(command);
  if (!started) return started.why();
  return started->wait(command);
}

}  // namespace troupe::cli
