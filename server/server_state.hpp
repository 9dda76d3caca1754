// What all connections of one server share: the engine, the rules, the figures, and the list of who is connected.
// Knows no socket.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include <troupe/service.hpp>

#include "server/address_shares.hpp"
#include "server/http_server.hpp"
#include "server/memory_watch.hpp"
#include "server/request_guard.hpp"
#include "server/server_metrics.hpp"

namespace troupe::server {

/// A connection as the server sees it when it ends. Both calls come from any thread.
class connection {
public:
  virtual ~connection() = default;
  virtual void drain() = 0;  ///< end when what runs has ended
  virtual void cut() = 0;    ///< end now
};

struct server_state : std::enable_shared_from_this<server_state> {
  server_state(service& engine_, server_options options_)
      : engine(engine_), options(std::move(options_)), addresses(options.max_per_address), memory(options.read_memory) {
    rules = {options.allow_remote, options.allowed_hosts, options.allowed_origins, options.max_body};
  }

  service& engine;
  const server_options options;
  access_rules rules;
  server_metrics metrics;
  address_shares addresses;
  address_shares turned_away{100};  ///< those who are being told that their address has no place left
  memory_watch memory;
  std::atomic<bool> draining{false};
  std::atomic<bool> closed{false};  ///< nothing posted is run any more
  std::shared_ptr<void>
      run_context;  ///< what sockets live in: lives as long as the last session, which a late sink may hold

  error too_many_from_one_address() const;
  static error memory_is_low();

  /// A connection is listed until its socket is closed; `on_leave` runs after each removal, from any thread.
  void join(const std::shared_ptr<connection>& one);
  void leave(const connection* one);
  std::vector<std::shared_ptr<connection>> connected() const;
  std::size_t size() const;
  std::function<void()> on_leave;

private:
  mutable std::mutex guard_;
  std::unordered_map<const connection*, std::weak_ptr<connection>> connections_;
};

/// The listed life of a connection: joins where it is made, leaves where it goes.
class membership {
public:
  membership(std::shared_ptr<server_state> state, const std::shared_ptr<connection>& one)
      : state_(std::move(state)), one_(one.get()) {
    state_->join(one);
  }
  ~membership() { state_->leave(one_); }
  membership(const membership&) = delete;
  membership& operator=(const membership&) = delete;

private:
  std::shared_ptr<server_state> state_;
  const connection* one_;
};

}  // namespace troupe::server
