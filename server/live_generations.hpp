// The generations of one WebSocket: client frames in, event frames out. Knows no socket: a frame_writer stands for it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include <troupe/service.hpp>

#include "server/chat_request.hpp"
#include "server/server_state.hpp"

namespace troupe::server {

/// The socket's side. send() is called on its strand only, post() from anywhere.
class frame_writer {
public:
  virtual ~frame_writer() = default;
  virtual void post(std::function<void()> task) = 0;
  /// `written` runs when the frame has left for the kernel; may be empty.
  virtual void send(std::string frame, std::function<void()> written) = 0;
  virtual void generations_ended() = 0;   ///< none is live any more
  virtual void break_off() noexcept = 0;  ///< ends the socket as if the client had left; from any thread
};

/// On the writer's strand only. The writer owns this and outlives it.
class live_generations {
public:
  live_generations(server_state& server, const client_address& whose)
      : server_(server), engine_(server.engine), whose_(whose) {}
  ~live_generations() { drop_all(); }
  live_generations(const live_generations&) = delete;
  live_generations& operator=(const live_generations&) = delete;

  void receive(std::string_view frame, const std::shared_ptr<frame_writer>& to);
  void refuse_new() noexcept { refusing_ = true; }  ///< the server is ending: live ones go on
  void drop_all() noexcept;                         ///< nobody reads any more: cancels every one
  bool empty() const noexcept { return live_.empty(); }

private:
  class subscriber;
  void generate(client_message message, const std::shared_ptr<frame_writer>& to);
  void forget(const std::string& id, frame_writer& to);

  server_state& server_;
  service& engine_;
  const client_address whose_;
  bool refusing_ = false;
  std::map<std::string, std::shared_ptr<subscriber>> live_;
};

}  // namespace troupe::server
