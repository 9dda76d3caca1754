// The polite end of a connection: says that nothing more comes, and reads what is left, for closing on unread bytes
// would take the answer back (RST). Knows no HTTP and no deadline.
#pragma once

#include <boost/asio/ip/tcp.hpp>

#include <array>
#include <memory>
#include <utility>

namespace troupe::server {

/// `ended` is called once the client has ended its side or the socket has been closed here. It keeps the socket's owner
/// alive.
template <class Ended>
void read_to_the_end(boost::asio::ip::tcp::socket& socket, Ended ended) {
  struct reading : std::enable_shared_from_this<reading> {
    reading(boost::asio::ip::tcp::socket& from, Ended then) : socket(from), ended(std::move(then)) {}
    void next() {
      socket.async_read_some(boost::asio::buffer(dropped),
                             [self = this->shared_from_this()](boost::system::error_code failed, std::size_t) {
                               if (failed) return self->ended();
                               self->next();
                             });
    }
    boost::asio::ip::tcp::socket& socket;
    Ended ended;
    std::array<char, 4096> dropped;
  };
  boost::system::error_code failed;
  socket.shutdown(boost::asio::ip::tcp::socket::shutdown_send, failed);
  if (failed) return ended();
  std::make_shared<reading>(socket, std::move(ended))->next();
}

}  // namespace troupe::server
