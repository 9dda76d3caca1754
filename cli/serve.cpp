// `troupe serve`: the runtime behind the HTTP server, until a signal. The first lets running answers end, the second
// ends at once.
#include <unistd.h>

#include <chrono>
#include <iostream>
#include <thread>

#include "cli/engine.hpp"
#include "cli/options.hpp"
#include "cli/report.hpp"
#include "cli/signals.hpp"
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

}  // namespace

int serve(const serve_options& options) {
  const signal_block block;
  auto engine = start_engine(options.engine);
  if (!engine) return report(engine.why());
  auto server = server::http_server::start(engine->runtime->as_service(), to_server(options));
  if (!server) return report(server.why());
  greet(options, (*server)->port(), engine->model.card().name);

  block.wait();
  std::cerr << "Ending: running answers have " << options.drain_seconds << " s. A second signal ends at once." << std::endl;
  const signal_watch second(block, [](int) { _exit(130); });
  const std::chrono::seconds limit(options.drain_seconds);
  (*server)->drain(limit);
  engine->runtime->drain(limit);
  return 0;
}

}  // namespace troupe::cli
