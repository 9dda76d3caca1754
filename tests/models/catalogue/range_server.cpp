// Plain POSIX sockets: small enough to read, and independent of the client under test.
#include "models/catalogue/range_server.hpp"

#include <algorithm>
#include <cstdlib>
#include <stdexcept>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace troupe::test {
namespace {

std::string header_value(const std::string& head, const std::string& name) {
  const auto at = head.find("\r\n" + name + ": ");
  if (at == std::string::npos) return "";
  const auto start = at + name.size() + 4;
  return head.substr(start, head.find("\r\n", start) - start);
}

std::string read_head(int socket) {
  std::string head;
  char byte = 0;
  while (head.find("\r\n\r\n") == std::string::npos && recv(socket, &byte, 1, 0) == 1) head += byte;
  return head;
}

void send_all(int socket, const std::string& bytes) {
  for (std::size_t done = 0; done < bytes.size();) {
    const auto sent = send(socket, bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL);
    if (sent <= 0) return;
    done += static_cast<std::size_t>(sent);
  }
}

}  // namespace

range_server::range_server() {
  listener_ = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(listener_, 8) != 0 ||
      getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0)
    throw std::runtime_error("the test's server cannot listen");
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this] { serve(); });
}

range_server::~range_server() {
  ending_ = true;
  shutdown(listener_, SHUT_RDWR);  // wakes accept
  thread_.join();
  close(listener_);
}

void range_server::behave(behaviour how) {
  const std::lock_guard lock(guard_);
  how_ = std::move(how);
}

std::string range_server::url(const std::string& file) const {
  return "http://127.0.0.1:" + std::to_string(port_) + "/" + file;
}

std::vector<std::string> range_server::requests() const {
  const std::lock_guard lock(guard_);
  return requests_;
}

void range_server::serve() {
  while (!ending_) {
    const int socket = accept(listener_, nullptr, nullptr);
    if (socket < 0) continue;
    answer(socket);
    close(socket);
  }
}

void range_server::answer(int socket) {
  const auto head = read_head(socket);
  behaviour how;
  {
    const std::lock_guard lock(guard_);
    requests_.push_back(head);
    how = how_;
  }
  const std::string ending = "Connection: close\r\n\r\n";
  if (how.status != 0)
    return send_all(socket, "HTTP/1.1 " + std::to_string(how.status) + " No\r\nContent-Length: 0\r\n" + ending);

  const auto range = header_value(head, "Range");
  const auto condition = header_value(head, "If-Range");
  const bool partial = how.ranges && range.starts_with("bytes=") && (condition.empty() || condition == how.etag);
  const std::size_t start = partial ? std::strtoull(range.c_str() + 6, nullptr, 10) : 0;
  const std::string whole = std::to_string(how.content.size());
  if (partial && start >= how.content.size())
    return send_all(socket,
                    "HTTP/1.1 416 No\r\nContent-Range: bytes */" + whole + "\r\nContent-Length: 0\r\n" + ending);

  const std::string body = how.content.substr(start);
  std::string answer = partial ? "HTTP/1.1 206 Partial\r\nContent-Range: bytes " + std::to_string(start) + "-" +
                                     std::to_string(how.content.size() - 1) + "/" + whole + "\r\n"
                               : std::string("HTTP/1.1 200 OK\r\n");
  if (!how.etag.empty()) answer += "ETag: " + how.etag + "\r\n";
  send_all(socket, answer + "Content-Length: " + std::to_string(body.size()) + "\r\n" + ending);
  send_all(socket, body.substr(0, std::min(how.cut_after, body.size())));
  pollfd gone{socket, POLLIN, 0};
  if (how.stall) poll(&gone, 1, 10'000);  // until the client gives up and closes
}

}  // namespace troupe::test
