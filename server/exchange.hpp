// One request and its answer, as handlers see them: whole, or streamed with credit. Handlers run on the connection's
// strand; everything here but post() is called there only. Knows no HTTP parser.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <troupe/result.hpp>
#include <troupe/service.hpp>

#include "server/address_shares.hpp"
#include "server/request_head.hpp"

namespace troupe::server {

struct server_state;

struct reply {
  int status = 200;
  std::string_view content_type = "application/json";
  std::string body = {};
  std::vector<std::pair<std::string, std::string>> fields = {};  ///< further header fields
};

/// What a handler leaves behind while its answer is under way.
class running_answer {
public:
  virtual ~running_answer() = default;
  virtual void written(std::uint32_t events) = 0;  ///< so many streamed events have left for the kernel
  virtual void client_gone() = 0;                  ///< nobody reads any more; called at most once, then nothing else
};

class exchange {
public:
  virtual ~exchange() = default;

  virtual const request_head& head() const noexcept = 0;
  virtual std::string_view body() const noexcept = 0;
  virtual std::string_view parameter() const noexcept = 0;  ///< what the route's {name} matched
  virtual server_state& server() noexcept = 0;
  virtual const client_address& peer() const noexcept = 0;

  /// Runs `task` on the strand, never inline. From any thread.
  virtual void post(std::function<void()> task) = 0;
  /// Ends the connection as if the client had left. From any thread.
  virtual void break_off() noexcept = 0;
  /// Runs `task` on the strand later, unless the answer has ended by then. One at a time.
  virtual void after(std::chrono::milliseconds delay, std::function<void()> task) = 0;

  /// Announces that the answer comes later, and who is told when the client leaves.
  virtual void attach(std::shared_ptr<running_answer> running) = 0;
  virtual void answer(reply whole) = 0;
  virtual void begin_stream(std::string_view content_type) = 0;
  virtual void stream(std::string_view part, std::uint32_t events) = 0;
  virtual void end_stream() = 0;
  /// Hands the connection to a WebSocket session.
  virtual void upgrade() = 0;
};

/// With Retry-After where it may go better later.
reply error_reply(int status, const error& why);
void answer_error(exchange& to, const error& why);

}  // namespace troupe::server
