// The listener, its threads, and the orderly end. Accepts while there is room: at the connection limit, and when there
// is no descriptor or memory left, new clients wait in the kernel's queue.
#include "server/http_server.hpp"

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>

#include <condition_variable>
#include <optional>
#include <thread>

#include "base/log.hpp"
#include "server/chat_request.hpp"
#include "server/http_session.hpp"
#include "server/server_state.hpp"

namespace troupe::server {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

client_address address_of(const asio::ip::address& peer) {
  std::uint64_t network = 0;
  if (peer.is_v6() && !peer.to_v6().is_v4_mapped()) {
    const auto bytes = peer.to_v6().to_bytes();
    for (std::size_t i = 0; i < 8; ++i) network = network << 8 | bytes[i];
    return {network, true, peer.is_loopback()};
  }
  const auto narrow = peer.is_v4() ? peer.to_v4() : asio::ip::make_address_v4(asio::ip::v4_mapped, peer.to_v6());
  return {narrow.to_uint(), false, narrow.is_loopback()};
}

class listener : public std::enable_shared_from_this<listener> {
public:
  listener(asio::io_context& context, std::shared_ptr<server_state> state)
      : context_(context), state_(std::move(state)), own_turn_(turn()), acceptor_(own_turn_), pause_(own_turn_) {}

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
    if (state_->memory.now() == memory_level::gone) return accept_later();
    acceptor_.async_accept(turn(), [self = shared_from_this(), round = round_](error_code failed, tcp::socket socket) {
      if (round == self->round_) self->on_accept(failed, std::move(socket));
    });
  }

  /// From any thread: a connection has ended.
  void room() {
    asio::post(own_turn_, [self = shared_from_this()] {
      if (self->waiting_for_room_) self->accept();
    });
  }

  /// From any thread: something has thrown, perhaps what was to bring the next client. What still waits is given up.
  void go_on() {
    asio::post(own_turn_, [self = shared_from_this()] {
      ++self->round_;
      error_code ignored;
      self->acceptor_.cancel(ignored);
      self->pause_.cancel();
      self->accept();
    });
  }

  void stop() {
    asio::post(own_turn_, [self = shared_from_this()] {
      error_code ignored;
      self->acceptor_.close(ignored);
      self->pause_.cancel();
    });
  }

private:
  void on_accept(error_code failed, tcp::socket socket) {
    if (!acceptor_.is_open()) return;
    if (failed) return accept_later();  // no descriptor or memory left: at once it would only fail again
    ++state_->metrics.connections;
    try {
      admit(std::move(socket));
    } catch (const std::exception& fault) {  // no memory for one client must not end accepting
      ++state_->metrics.faults;
      base::log(base::log_level::error, "server", fault.what());
    }
    accept();
  }

  void accept_later() {
    pause_.expires_after(std::chrono::milliseconds(100));
    pause_.async_wait([self = shared_from_this()](error_code stopped) {
      if (!stopped) self->accept();
    });
  }

  void admit(tcp::socket socket) {
    error_code failed;
    const auto peer = socket.remote_endpoint(failed);
    if (failed) return;  // it has left already
    visitor who{address_of(peer.address()), {}};
    who.seat = state_->addresses.take(who.from);
    if (!who.seat) {
      who.welcome = false;
      who.seat = state_->turned_away.take({});
      if (!who.seat) return;  // enough are being told
    }
    socket.set_option(tcp::no_delay(true), failed);
    run_http_session(std::move(socket), std::move(who), state_);
  }

  /// Where handlers run one at a time: on a single thread all do. A strand would end the process where it found no
  /// memory to go on with its next handler.
  asio::any_io_executor turn() {
    if (state_->options.threads > 1) return asio::make_strand(context_);
    return context_.get_executor();
  }

  asio::io_context& context_;
  std::shared_ptr<server_state> state_;
  asio::any_io_executor own_turn_;
  tcp::acceptor acceptor_;
  asio::steady_timer pause_;
  bool waiting_for_room_ = false;
  std::uint64_t round_ = 0;  ///< of accepting; handlers of another are late
};

/// Nothing that a connection throws may end the process.
void serve(asio::io_context& context, listener& door, server_metrics& metrics) {
  for (bool faulty = false;;) {
    try {
      if (faulty) door.go_on();
      context.run();
      return;
    } catch (const std::exception& fault) {
      ++metrics.faults;
      base::log(base::log_level::error, "server", fault.what());
      if (std::exchange(faulty, true))
        std::this_thread::sleep_for(std::chrono::milliseconds(1));  // memory may come back
    }
  }
}

error cannot_listen(const server_options& options, error_code why) {
  const auto where = options.address + ":" + std::to_string(options.port);
  if (why == asio::error::address_in_use)
    return {errc::io,
            "Port " + std::to_string(options.port) +
                " is taken: end the program that has it, or choose another with --port.",
            "port"};
  return {errc::io, "Cannot listen on " + where + ": " + why.message() + ".", {}};
}

}  // namespace

struct http_server::parts {
  std::shared_ptr<asio::io_context> context = std::make_shared<asio::io_context>();
  /// Until the end: where the accept that waited has thrown, there would be no work for a moment.
  std::optional<asio::executor_work_guard<asio::io_context::executor_type>> lasting{context->get_executor()};
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
  if (failed)
    return error{errc::invalid_argument, "\"" + options.address + "\" is not an IP address to listen on.", "address"};
  if (!address.is_loopback() && !options.allow_remote)
    return error{
        errc::invalid_argument,
        options.address +
            " can be reached from other machines and there are no keys yet: add --allow-remote if that is meant.",
        "address"};
  // simdjson chooses its implementation at its first use, and would end the process if it found no memory then.
  if (const auto first_use = parse_chat("{}"); first_use.ok())
    return error{errc::internal, "The reader of requests is broken.", {}};
  auto all = std::make_unique<parts>();
  all->state = std::make_shared<server_state>(engine, options);
  all->state->run_context = all->context;
  all->door = std::make_shared<listener>(*all->context, all->state);
  if ((failed = all->door->open({address, options.port}))) return cannot_listen(options, failed);
  all->port = all->door->port();
  all->state->on_leave = [door = std::weak_ptr(all->door), raw = all.get()] {
    {
      const std::scoped_lock lock(raw->guard);
      raw->left.notify_all();
    }
    if (auto open = door.lock()) open->room();
  };
  all->door->accept();
  for (int i = 0; i < std::max(1, options.threads); ++i)
    all->threads.emplace_back([raw = all.get()] { serve(*raw->context, *raw->door, raw->state->metrics); });
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
  all_->lasting.reset();
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
