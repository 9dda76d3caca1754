// Reads many SSE answers of a server at once and says how fast their tokens came. It shares the machine with the server
// it measures, so it does little: every byte is read, but only the first token and the end are looked at. Knows no
// model.
//
// stream_client PORT STREAMS TOKENS MODEL      prints: tokens a second, events that carried text
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

namespace {

using clock = std::chrono::steady_clock;

constexpr std::string_view prompt =
    "Write a long story about a lighthouse, the people who kept it, and the ships that it guided home.";
constexpr std::string_view text_begin = "\"content\":\"";

struct stream {
  int socket = -1;
  std::string text;  ///< all that came
  clock::time_point first{}, end{};
};

[[noreturn]] void give_up(const std::string& why) {
  std::fprintf(stderr, "stream_client: %s\n", why.c_str());
  std::exit(1);
}

int ask(int port, const std::string& tokens, const std::string& model) {
  sockaddr_in where{};
  where.sin_family = AF_INET;
  where.sin_port = htons(static_cast<std::uint16_t>(port));
  where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  if (socket < 0 || ::connect(socket, reinterpret_cast<const sockaddr*>(&where), sizeof where) != 0)
    give_up("cannot connect");
  const std::string body = R"({"messages":[{"role":"user","content":")" + std::string(prompt) + R"("}],"max_tokens":)" +
                           tokens + R"(,"ignore_eos":true,"temperature":0,"stream":true,"model":")" + model + "\"}";
  const std::string request =
      "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:" + std::to_string(port) +
      "\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: " + std::to_string(body.size()) +
      "\r\n\r\n" + body;
  if (::send(socket, request.data(), request.size(), 0) != static_cast<ssize_t>(request.size())) give_up("cannot send");
  return socket;
}

/// Chunks whose text is not empty.
std::int64_t events_in(const std::string& all, std::size_t from = 0) {
  std::int64_t events = 0;
  for (std::size_t at = from; (at = all.find(text_begin, at)) != std::string::npos;) {
    at += text_begin.size();
    events += at < all.size() && all[at] != '"';
  }
  return events;
}

/// False: this stream is over.
bool read_some(stream& one, std::vector<char>& room) {
  const ssize_t size = ::recv(one.socket, room.data(), room.size(), 0);
  if (size < 0) give_up("cannot read");
  const std::size_t before = one.text.size();
  one.text.append(room.data(), static_cast<std::size_t>(size));
  if (one.first == clock::time_point{} && events_in(one.text) > 0) one.first = clock::now();
  const std::size_t look_from = before > 16 ? before - 16 : 0;
  if (one.text.find("data: [DONE]", look_from) != std::string::npos) {
    one.end = clock::now();
    return false;
  }
  if (size == 0)
    give_up("a stream ended early: " + one.text.substr(one.text.size() - std::min<std::size_t>(one.text.size(), 300)));
  return true;
}

}  // namespace

int main(int count, char** given) {
  if (count != 5) give_up("PORT STREAMS TOKENS MODEL are wanted");
  const int port = std::atoi(given[1]), tokens = std::atoi(given[3]);
  std::vector<stream> streams(static_cast<std::size_t>(std::max(1, std::atoi(given[2]))));
  std::vector<char> room(1 << 16);
  const int waiting = ::epoll_create1(0);
  for (stream& one : streams) {
    one.text.reserve(1 << 20);
    one.socket = ask(port, given[3], given[4]);
    epoll_event what{};
    what.events = EPOLLIN;
    what.data.ptr = &one;
    if (::epoll_ctl(waiting, EPOLL_CTL_ADD, one.socket, &what) != 0) give_up("cannot wait");
  }
  std::vector<epoll_event> ready(streams.size());
  for (std::size_t left = streams.size(); left > 0;) {
    const int number = ::epoll_wait(waiting, ready.data(), static_cast<int>(ready.size()), 60'000);
    if (number <= 0) give_up("the server has sent nothing for a minute");
    for (int i = 0; i < number; ++i) {
      auto& one = *static_cast<stream*>(ready[static_cast<std::size_t>(i)].data.ptr);
      if (read_some(one, room)) continue;
      ::close(one.socket);
      --left;
    }
  }
  std::int64_t events = 0;
  for (const stream& one : streams) events += events_in(one.text);
  const auto by_first = [](const stream& a, const stream& b) { return a.first < b.first; };
  const auto by_end = [](const stream& a, const stream& b) { return a.end < b.end; };
  const auto begin = std::max_element(streams.begin(), streams.end(), by_first)->first;
  const auto end = std::min_element(streams.begin(), streams.end(), by_end)->end;
  const double seconds = std::chrono::duration<double>(end - begin).count();
  std::printf("%.1f %lld\n", static_cast<double>(streams.size()) * (tokens - 1) / seconds,
              static_cast<long long>(events));
}
