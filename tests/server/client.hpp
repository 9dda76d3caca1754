// A blocking client over real loopback sockets: raw bytes, HTTP answers, SSE events, WebSocket frames. Every read has a
// time limit, so that a silent server fails a test and does not hang it.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cctype>
#include <cerrno>
#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>

namespace troupe::server {

struct http_answer {
  int status = 0;
  std::map<std::string, std::string> fields;  ///< names in lower case
  std::string body;
};

class client {
public:
  explicit client(std::uint16_t port, int receive_buffer = 0) : port_(port), fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    const int at_once = 1;
    ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &at_once, sizeof at_once);
    if (receive_buffer > 0) ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    timeval limit{20, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_port = htons(port);
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(fd_, reinterpret_cast<sockaddr*>(&where), sizeof where) != 0)
      throw std::runtime_error("no connection");
  }
  ~client() { leave(); }
  client(const client&) = delete;
  client& operator=(const client&) = delete;

  void leave() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  void reset() {
    linger now{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    leave();
  }
  void half_close() { ::shutdown(fd_, SHUT_WR); }

  void send(std::string_view bytes) {
    while (!bytes.empty()) {
      const auto n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) throw std::runtime_error("cannot send");
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
  }

  void ask(std::string_view method, std::string_view path, std::string_view body = {}, std::string_view more = {}) {
    std::string text;
    text.append(method)
        .append(" ")
        .append(path)
        .append(" HTTP/1.1\r\nHost: localhost:")
        .append(std::to_string(port_))
        .append("\r\n")
        .append(more);
    if (method == "POST")
      text.append("Content-Type: application/json\r\nContent-Length: ")
          .append(std::to_string(body.size()))
          .append("\r\n");
    send(text.append("\r\n").append(body));
  }

  /// Bytes up to and including `end`.
  std::string until(std::string_view end) {
    std::size_t at;
    while ((at = ready_.find(end)) == std::string::npos) more();
    auto text = ready_.substr(0, at + end.size());
    ready_.erase(0, at + end.size());
    return text;
  }
  std::string exactly(std::size_t n) {
    while (ready_.size() < n) more();
    auto text = ready_.substr(0, n);
    ready_.erase(0, n);
    return text;
  }
  /// Whether the server closes without sending anything else.
  bool closed() {
    try {
      more();
    } catch (const std::runtime_error&) {
      return ended_ && ready_.empty();
    }
    return false;
  }

  http_answer head() {
    http_answer answer;
    auto text = until("\r\n\r\n");
    answer.status = std::stoi(text.substr(9, 3));
    for (auto at = text.find("\r\n") + 2; at < text.size() - 2;) {
      const auto end = text.find("\r\n", at), colon = text.find(": ", at);
      auto name = text.substr(at, colon - at);
      for (auto& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      answer.fields[name] = text.substr(colon + 2, end - colon - 2);
      at = end + 2;
    }
    return answer;
  }

  std::string chunk() {
    const auto size = std::stoul(until("\r\n"), nullptr, 16);
    auto part = exactly(size);
    exactly(2);
    return part;
  }

  http_answer answer() {
    auto got = head();
    if (got.fields.contains("content-length")) got.body = exactly(std::stoul(got.fields["content-length"]));
    if (got.fields.contains("transfer-encoding"))
      for (std::string part; !(part = chunk()).empty();) got.body += part;
    return got;
  }

  http_answer call(std::string_view method, std::string_view path, std::string_view body = {},
                   std::string_view more = {}) {
    ask(method, path, body, more);
    return answer();
  }

  // --- WebSocket (RFC 6455) ---
  http_answer handshake(std::string_view more = "Sec-WebSocket-Protocol: troupe.v1\r\n") {
    return call("GET", "/v1/stream", {},
                "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
                "dGhlIHNhbXBsZSBub25jZQ==\r\n" +
                    std::string(more));
  }
  void frame(std::string_view payload, int opcode = 1) {
    std::string out(1, static_cast<char>(0x80 | opcode));
    if (payload.size() < 126) {
      out += static_cast<char>(0x80 | payload.size());
    } else {
      out += static_cast<char>(0x80 | 127);
      for (int shift = 56; shift >= 0; shift -= 8) out += static_cast<char>(payload.size() >> shift);
    }
    out.append(4, '\0').append(payload);  // a mask of zeros is a mask
    send(out);
  }
  /// The next text frame's payload; "close NNNN" for a close frame.
  std::string next_frame() {
    while (true) {
      const auto start = exactly(2);
      std::size_t size = static_cast<unsigned char>(start[1]) & 127;
      const int wide = size == 126 ? 2 : size == 127 ? 8 : 0;
      if (wide > 0) {
        size = 0;
        for (char c : exactly(static_cast<std::size_t>(wide))) size = size << 8 | static_cast<unsigned char>(c);
      }
      auto payload = exactly(size);
      const int opcode = start[0] & 15;
      if (opcode == 1) return payload;
      if (opcode == 8)
        return "close " +
               std::to_string(static_cast<unsigned char>(payload[0]) << 8 | static_cast<unsigned char>(payload[1]));
    }
  }

private:
  void more() {
    char bytes[16384];
    const auto n = ::recv(fd_, bytes, sizeof bytes, 0);
    if (n == 0 || (n < 0 && errno == ECONNRESET)) ended_ = true;
    if (n <= 0) throw std::runtime_error(ended_ ? "the server closed" : "the server is silent");
    ready_.append(bytes, static_cast<std::size_t>(n));
  }

  std::uint16_t port_;
  int fd_;
  std::string ready_;
  bool ended_ = false;
};

}  // namespace troupe::server
