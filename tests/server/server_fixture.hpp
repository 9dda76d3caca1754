// A server on a free port over a scripted service.
#pragma once

#include <memory>

#include "client.hpp"
#include "scripted_service.hpp"
#include "server/http_server.hpp"

namespace troupe::server {

inline const std::string hello = R"({"model":"small","messages":[{"role":"user","content":"hi"}]})";

inline std::string hello_with(const std::string& more) { return hello.substr(0, hello.size() - 1) + "," + more + "}"; }

struct running_server {
  explicit running_server(server_options options = {}) {
    options.port = 0;
    options.threads = 2;
    server = http_server::start(engine, options).value_or_throw();
  }
  std::uint16_t port() const { return server->port(); }

  scripted_service engine;
  std::unique_ptr<http_server> server;
};

inline bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace troupe::server
