// `troupe serve`: the runtime behind the HTTP server, until a signal. The first lets running answers end, the second
// ends at once; a terminal that closes counts as a first. On a GPU in a process of its own, which is replaced when its
// device is lost.
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <iostream>
#include <mutex>
#include <optional>
#include <thread>

#include "cli/engine.hpp"
#include "cli/keep_serving.hpp"
#include "cli/options.hpp"
#include "cli/report.hpp"
#include "cli/signals.hpp"
#include "kernels/cuda/cuda_lane.hpp"
#include "server/http_server.hpp"

namespace troupe::cli {
namespace {

server::server_options to_server(const serve_options& o) {
  server::server_options s;
  s.address = o.host;
  s.port = o.port;
  s.allow_remote = o.allow_remote;
  s.allowed_origins = o.origins;
  s.allowed_hosts = o.hosts;
  s.max_per_address = o.max_per_address;
  return s;
}

void greet(const serve_options& o, std::uint16_t port, const std::string& model) {
  const std::string host = o.host.find(':') == std::string::npos ? o.host : "[" + o.host + "]";
  const std::string at = "http://" + host + ":" + std::to_string(port);
  std::cout << "Troupe serves " << model << "\n\n"
            << "  Chat page  " << at << "/\n"
            << "  API        " << at << "/v1\n\n"
            << "  curl " << at << "/v1/chat/completions -H 'Content-Type: application/json' \\\n"
            << "    -d '{\"messages\":[{\"role\":\"user\",\"content\":\"Name three rivers.\"}]}'\n\n"
            << "Ctrl-C ends it." << std::endl;
}

/// Why the engine was lost, told by one of its threads, which also ends the wait for a signal.
class loss {
public:
  void tell(const error& why) {
    {
      const std::lock_guard lock(mutex_);
      why_ = why;
    }
    kill(getpid(), SIGTERM);
  }
  std::optional<error> why() const {
    const std::lock_guard lock(mutex_);
    return why_;
  }

private:
  mutable std::mutex mutex_;
  std::optional<error> why_;
};

/// Time for those who wait to hear of it, and for /health to be read.
constexpr std::chrono::seconds last_words{2};

int serve_once(const serve_options& options) {
  const signal_block block(on_hangup::ask);
  loss lost;
  auto engine = [&] {
    const signal_watch loading(block, [&lost](int) { _exit(lost.why() ? engine_lost_status : 130); });
    return start_engine(options.engine, [&lost](const error& why) { lost.tell(why); });
  }();
  if (!engine) return report(engine.why());
  auto server = server::http_server::start(engine->runtime->as_service(), to_server(options));
  if (!server) return report(server.why());
  greet(options, (*server)->port(), engine->model.card().name);

  block.wait();
  if (const auto why = lost.why()) {
    std::cerr << "The engine is lost: " << why->text << std::endl;
    std::this_thread::sleep_for(last_words);
    _exit(engine_lost_status);  // its threads may hang in the driver: nothing can be taken apart
  }
  std::cerr << "Ending: running answers have " << options.drain_seconds << " s. A second signal ends at once."
            << std::endl;
  const signal_watch second(block, [](int which) {
    if (which != SIGHUP) _exit(130);  // a terminal that closes may say so twice
  });
  const std::chrono::seconds limit(options.drain_seconds);
  (*server)->drain(limit);
  engine->runtime->drain(limit);
  return 0;
}

}  // namespace

int serve(const serve_options& options) {
  std::signal(SIGPIPE, SIG_IGN);  // whoever read the log may leave
  const bool on_gpu = kernels::cuda::built_with_cuda() && options.engine.device != "cpu";
  return on_gpu ? keep_serving(options, serve_once) : serve_once(options);
}

}  // namespace troupe::cli
