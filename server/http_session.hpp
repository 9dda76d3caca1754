// Serves HTTP on an accepted socket. Knows no route's meaning.
#pragma once

#include <memory>

#include <boost/asio/ip/tcp.hpp>

#include "server/address_shares.hpp"

namespace troupe::server {

struct server_state;

/// Who has connected.
struct visitor {
  client_address from;
  address_shares::place seat;  ///< held while the connection lives
  bool welcome = true;         ///< false: hears 429 at once, and is closed
};

/// Serves requests one after another until the connection ends or becomes a WebSocket. The socket's executor must be a
/// strand; the session lives by its pending operations.
void run_http_session(boost::asio::ip::tcp::socket socket, visitor who, std::shared_ptr<server_state> state);

}  // namespace troupe::server
