// An HTTP server on 127.0.0.1 for one file: answers ranges, and fails in the ways that a test asks for. Serves one
// connection at a time on its own thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace troupe::test {

class range_server {
public:
  struct behaviour {
    std::string content = {};
    std::string etag = {};                      ///< with its quotes; "" for none
    bool ranges = true;                         ///< false: always the whole file with 200
    std::size_t cut_after = std::string::npos;  ///< the connection ends after so many bytes of the body
    bool stall = false;                         ///< after cut_after bytes: silence instead of an end
    int status = 0;                             ///< other than 0: this status and no body
  };

  range_server();
  ~range_server();
  range_server(const range_server&) = delete;
  range_server& operator=(const range_server&) = delete;

  void behave(behaviour how);
  std::string url(const std::string& file) const;
  /// The request heads so far.
  std::vector<std::string> requests() const;

private:
  void serve();
  void answer(int socket);

  mutable std::mutex guard_;
  behaviour how_;
  std::vector<std::string> requests_;
  int listener_ = -1;
  int port_ = 0;
  std::atomic<bool> ending_{false};
  std::thread thread_;
};

}  // namespace troupe::test
