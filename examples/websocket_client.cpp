// Asks a running server over its WebSocket and prints the answer as it comes. Needs no Troupe library: what it speaks
// is in docs/websocket-protocol.md.
//   troupe serve &  websocket_client [port] [question]
#include <iostream>
#include <string>

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/websocket.hpp>
#include <boost/json/src.hpp>

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace json = boost::json;

namespace {

using socket_stream = beast::websocket::stream<asio::ip::tcp::socket>;

void open(socket_stream& ws, asio::io_context& io, const std::string& port) {
  const std::string host = "127.0.0.1";
  asio::connect(ws.next_layer(), asio::ip::tcp::resolver(io).resolve(host, port));
  ws.set_option(beast::websocket::stream_base::decorator([](beast::websocket::request_type& request) {
    request.set(beast::http::field::sec_websocket_protocol, "troupe.v1");
  }));
  ws.handshake(host + ":" + port, "/v1/stream");
}

json::object next_message(socket_stream& ws) {
  beast::flat_buffer buffer;
  ws.read(buffer);
  return json::parse(beast::buffers_to_string(buffer.data())).as_object();
}

// Prints what a message says. False: it was the last one of the answer.
bool show(const json::object& message) {
  const auto& type = message.at("type").as_string();
  if (type == "delta") std::cout << message.at("text").as_string().c_str() << std::flush;
  if (type == "error") throw std::runtime_error(json::serialize(message.at("error")));
  if (type != "done") return true;
  std::cout << "\n(" << message.at("finish_reason").as_string().c_str() << ", "
            << message.at("usage").at("completion_tokens") << " tokens, first after "
            << message.at("timing").at("first_token_ms") << " ms)\n";
  return false;
}

}  // namespace

int main(int argc, char** argv) try {
  asio::io_context io;
  socket_stream ws(io);
  open(ws, io, argc > 1 ? argv[1] : "8080");

  // The id is ours: many answers may share one socket, and each message says which it belongs to.
  const json::value generate = {
      {"type", "generate"},
      {"id", "rivers"},
      {"max_tokens", 60},
      {"messages", {{{"role", "user"}, {"content", argc > 2 ? argv[2] : "Name three rivers."}}}}};
  ws.write(asio::buffer(json::serialize(generate)));
  while (show(next_message(ws))) {
  }
  ws.close(beast::websocket::close_code::normal);
} catch (const std::exception& e) {
  std::cerr << "websocket_client: " << e.what() << '\n';
  return 1;
}
