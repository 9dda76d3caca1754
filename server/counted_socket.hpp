// A socket that tells of every byte it has read, for what a protocol above it takes in without a word. Knows no
// protocol.
#pragma once

#include <boost/asio/compose.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/role.hpp>
#include <boost/beast/websocket/teardown.hpp>

#include <cstddef>
#include <functional>
#include <utility>

namespace troupe::server {

/// A layer below Beast's WebSocket stream.
class counted_socket {
public:
  using next_layer_type = boost::asio::ip::tcp::socket;
  using executor_type = next_layer_type::executor_type;

  explicit counted_socket(next_layer_type socket) : socket_(std::move(socket)) {}

  /// Called within a read, before what was read is looked at.
  void on_bytes(std::function<void(std::size_t)> tell) { tell_ = std::move(tell); }

  executor_type get_executor() noexcept { return socket_.get_executor(); }
  next_layer_type& next_layer() noexcept { return socket_; }
  const next_layer_type& next_layer() const noexcept { return socket_; }

  template <class Buffers, class Token>
  auto async_read_some(const Buffers& into, Token&& done) {
    return boost::asio::async_compose<Token, void(boost::system::error_code, std::size_t)>(
        [this, into, begun = false](auto& self, boost::system::error_code failed = {}, std::size_t size = 0) mutable {
          if (!std::exchange(begun, true)) return socket_.async_read_some(into, std::move(self));
          if (tell_ && size > 0) tell_(size);
          self.complete(failed, size);
        },
        done, socket_);
  }
  template <class Buffers, class Token>
  auto async_write_some(const Buffers& from, Token&& done) {
    return socket_.async_write_some(from, std::forward<Token>(done));
  }

private:
  next_layer_type socket_;
  std::function<void(std::size_t)> tell_;
};

// What Beast calls at a WebSocket's end, found by the layer's type.
template <class Handler>
void async_teardown(boost::beast::role_type role, counted_socket& layer, Handler&& done) {
  boost::beast::websocket::async_teardown(role, layer.next_layer(), std::forward<Handler>(done));
}

}  // namespace troupe::server
