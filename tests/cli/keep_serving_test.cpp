// Servers that are lost, replaced, moved to the CPU, and given up. The children write down who they were.
#include "cli/keep_serving.hpp"

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <iterator>
#include <string>

#include "support/catch.hpp"
#include "support/scratch_directory.hpp"

namespace troupe::cli {
namespace {

using namespace std::chrono_literals;
using next = restart_policy::next;

std::string text_of(const std::filesystem::path& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// What keep_serving returns when the nth child does `what(n)`, and the devices that the children were told.
struct told {
  int status;
  std::string devices;
};
told kept(const std::function<int(std::size_t)>& what) {
  const test::scratch_directory here;
  const auto file = here.path / "devices";
  serve_options options;
  options.engine.device = "cuda";
  const int status = keep_serving(options, [&](const serve_options& o) {
    std::ofstream(file, std::ios::app) << o.engine.device << " ";
    const std::string all = text_of(file);
    return what(static_cast<std::size_t>(std::count(all.begin(), all.end(), ' ')));
  });
  return {status, text_of(file)};
}

}  // namespace

TEST_CASE("a lost engine is started again, the third loss in five minutes moves it to the CPU, the next ends it") {
  const std::chrono::steady_clock::time_point start{1h};
  restart_policy policy;
  CHECK(policy.after_loss(start) == next::again);
  CHECK(policy.after_loss(start + 1min) == next::again);
  CHECK(policy.after_loss(start + 2min) == next::on_cpu);
  CHECK(policy.after_loss(start + 200min) == next::give_up);
}

TEST_CASE("losses that lie apart are each made good") {
  std::chrono::steady_clock::time_point now{1h};
  restart_policy policy;
  for (int i = 0; i < 20; ++i, now += 3min) CHECK(policy.after_loss(now) == next::again);
}

TEST_CASE("a server that ends by itself is not replaced") {
  const told once = kept([](std::size_t) { return 0; });
  CHECK(once.status == 0);
  CHECK(once.devices == "cuda ");
  CHECK(kept([](std::size_t) { return 2; }).devices == "cuda ");
}

TEST_CASE("a lost server is replaced by one in a new process, and at last by one on the CPU") {
  const told twice = kept([](std::size_t n) { return n < 3 ? engine_lost_status : 0; });
  CHECK(twice.status == 0);
  CHECK(twice.devices == "cuda cuda cuda ");
  const told moved = kept([](std::size_t n) { return n < 4 ? engine_lost_status : 0; });
  CHECK(moved.status == 0);
  CHECK(moved.devices == "cuda cuda cuda cpu ");
  const told ended = kept([](std::size_t) { return engine_lost_status; });
  CHECK(ended.status == engine_lost_status);
  CHECK(ended.devices == "cuda cuda cuda cpu ");
}

TEST_CASE("a server that crashes was lost; one that cannot start on its device again moves to the CPU") {
  const told crashed = kept([](std::size_t n) {
    if (n == 1) kill(getpid(), SIGKILL);
    return 0;
  });
  CHECK(crashed.status == 0);
  CHECK(crashed.devices == "cuda cuda ");
  const told gone = kept([](std::size_t n) { return n == 1 ? engine_lost_status : n == 2 ? 1 : 0; });
  CHECK(gone.status == 0);
  CHECK(gone.devices == "cuda cuda cpu ");
}

TEST_CASE("a signal is passed on to the server, which is not replaced then") {
  const told asked = kept([](std::size_t) {
    kill(getppid(), SIGTERM);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    int which = 0;
    sigwait(&set, &which);
    return engine_lost_status;
  });
  CHECK(asked.status == engine_lost_status);
  CHECK(asked.devices == "cuda ");
}

}  // namespace troupe::cli
