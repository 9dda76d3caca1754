// Turns an accepted upgrade into a WebSocket connection. The only header with Beast in it; two .cpp include it.
#pragma once

#include <memory>

#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/string_body.hpp>

namespace troupe::server {

struct server_state;

struct visitor;

/// Answers the handshake `upgrade` and serves the socket on its own executor until it closes.
void run_websocket(boost::asio::ip::tcp::socket socket, visitor who,
                   boost::beast::http::request<boost::beast::http::string_body> upgrade,
                   std::shared_ptr<server_state> state);

}  // namespace troupe::server
