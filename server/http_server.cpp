// The listener, its threads, and the orderly end. Accepts while there is room: at the connection limit, and when the
// process has no descriptor left, new clients wait in the kernel's queue.
#include "server/http_server.hpp"

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>

#include <condition_variable>
#include <thread>

#include "base/log.hpp"
#include "server/http_session.hpp"
#include "server/server_state.hpp"

namespace troupe::server {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

class listener : public std::enable_shared_from_this<listener> {
public:
  listener(asio::io_context& context, std::shared_ptr<server_state> state)
      : context_(context), strand_(asio::make_strand(context)), acceptor_(strand_), pause_(strand_), state_(std::move(state)) {}

  error_code open(const tcp::endpoint& where) {
    error_code failed;
    if (acceptor_.open(where.protocol(), failed)) return failed;
    if (acceptor_.set_option(asio::socket_base::reuse_address(true), failed)) return failed;
    if (acceptor_.bind(where, failed)) return failed;
    acceptor_.listen(asio::socket_base::max_listen_connections, failed);
    return failed;
  }

  std::uint16_t port() const { return acceptor_.local_endpoint().port(); }

  void accept() {
    if (!acceptor_.is_open()) return;
    waiting_for_room_ = state_->size() >= state_->options.max_connections;
    if (waiting_for_room_) return;
    acceptor_.async_accept(asio::make_strand(context_), [self = shared_from_this()](error_code failed, tcp::socket socket) {
      self->on_accept(failed, std::move(socket));
    });
  }

  /// From any thread: a connection has ended.
  void room() {
    asio::post(strand_, [self = shared_from_this()] {
      if (self->waiting_for_room_) self->accept();
    });
  }

  void stop() {
    asio::post(strand_, [self = shared_from_this()] {
      error_code ignored;
      self->acceptor_.close(ignored);
      self->pause_.cancel();
    });
  }

private:
  void on_accept(error_code failed, tcp::socket socket) {
    if (!acceptor_.is_open()) return;
    if (failed) {  // no descriptor or memory left: at once it would only fail again
      pause_.expires_after(std::chrono::milliseconds(100));
      pause_.async_wait([self = shared_from_this()](error_code stopped) {
        if (!stopped) self->accept();
      });
      return;
    }
    ++state_->metrics.connections;
    error_code ignored;
    socket.set_option(tcp::no_delay(true), ignored);
    try {
      run_http_session(std::move(socket), state_);
    } catch (const std::exception& fault) {  // no memory for one client must not end accepting
      ++state_->metrics.faults;
      base::log(base::log_level::error, "server", fault.what());
    }
    accept();
  }

  asio::io_context& context_;
  asio::strand<asio::io_context::executor_type> strand_;
  tcp::acceptor acceptor_;
  asio::steady_timer pause_;
  std::shared_ptr<server_state> state_;
  bool waiting_for_room_ = false;
};

/// Nothing that a connection throws may end the process.
void serve(asio::io_context& context, server_metrics& metrics) {
  while (true) {
    try {
      context.run();
      return;
    } catch (const std::exception& fault) {
      ++metrics.faults;
      base::log(base::log_level::error, "server", fault.what());
    }
  }
}

error cannot_listen(const server_options& options, error_code why) {
  const auto where = options.address + ":" + std::to_string(options.port);
  if (why == asio::error::address_in_use)
    return {errc::io, "Port " + std::to_string(options.port) + " is taken: end the program that has it, or choose another with --port.", "port"};
  return {errc::io, "Cannot listen on " + where + ": " + why.message() + ".", {}};
}

}  // namespace

struct http_server::parts {
  std::shared_ptr<asio::io_context> context = std::make_shared<asio::io_context>();
  std::shared_ptr<server_state> state;
  std::shared_ptr<listener> door;
  std::vector<std::thread> threads;
  std::mutex guard;
  std::condition_variable left;
  std::uint16_t port = 0;
};

result<std::unique_ptr<http_server>> http_server::start(service& engine, server_options options) {
  error_code failed;
  const auto address = asio::ip::make_address(options.address == "localhost" ? "127.0.0.1" : options.address, failed);
  if (failed) return error{errc::invalid_argument, "\"" + options.address + "\" is not an IP address to listen on.", "address"};
  if (!address.is_loopback() && !options.allow_remote)
    return error{errc::invalid_argument,
                 options.address + " can be reached from other machines and there are no keys yet: add --allow-remote if that is meant.", "address"};
  auto all = std::make_unique<parts>();
  all->state = std::make_shared<server_state>(engine, options);
  all->state->run_context = all->context;
  all->door = std::make_shared<listener>(*all->context, all->state);
  if ((failed = all->door->open({address, options.port}))) return cannot_listen(options, failed);
  all->port = all->door->port();
  all->state->on_leave = [door = std::weak_ptr(all->door), raw = all.get()] {
    if (auto open = door.lock()) open->room();
    const std::scoped_lock lock(raw->guard);
    raw->left.notify_all();
  };
  all->door->accept();
  for (int i = 0; i < std::max(1, options.threads); ++i)
    all->threads.emplace_back([raw = all.get()] { serve(*raw->context, raw->state->metrics); });
  return std::unique_ptr<http_server>(new http_server(std::move(all)));
}

http_server::http_server(std::unique_ptr<parts> all) : all_(std::move(all)) {}

http_server::~http_server() { drain(std::chrono::milliseconds(0)); }

std::uint16_t http_server::port() const noexcept { return all_->port; }

void http_server::drain(std::chrono::milliseconds deadline) {
  if (all_->threads.empty()) return;
  all_->state->draining = true;
  all_->door->stop();
  for (const auto& one : all_->state->connected()) one->drain();
  {
    std::unique_lock lock(all_->guard);
    all_->left.wait_for(lock, deadline, [this] { return all_->state->size() == 0; });
  }
  for (const auto& one : all_->state->connected()) one->cut();
  // With every socket closed and every timer cancelled the context runs out of work.
  for (auto& thread : all_->threads) thread.join();
  all_->threads.clear();
  all_->state->closed = true;
  // What was posted after the last thread had left holds its session, and that holds the context: run it, or none of
  // the three would ever be freed.
  all_->context->restart();
  all_->context->poll();
  all_->state->on_leave = nullptr;
}

}  // namespace troupe::server
