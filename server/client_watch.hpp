// Reads on while an answer is under way: the end of the client's stream, half-closed or not, is its leaving; what it
// sends early (pipelining) waits in the reader's buffer. Knows no answer.
#pragma once

#include <boost/asio/ip/tcp.hpp>

#include <algorithm>
#include <exception>
#include <memory>
#include <utility>

#include "server/guard.hpp"
#include "server/request_reader.hpp"

namespace troupe::server {

/// A part of a session: lives in it, runs on its strand.
class client_watch {
public:
  class owner {
  public:
    virtual std::shared_ptr<void> hold() = 0;  ///< what keeps both alive while a read is pending
    virtual void client_lost() = 0;
    virtual void watch_ended() = 0;
    virtual void failed(const std::exception& fault) noexcept = 0;  ///< a handler of ours has thrown

  protected:
    ~owner() = default;
  };

  client_watch(boost::asio::ip::tcp::socket& socket, request_reader& reader, server_metrics& metrics,
               owner& whose) noexcept
      : socket_(socket), reader_(reader), metrics_(metrics), owner_(whose) {}

  /// Does nothing where it watches already, or where the buffer is full: then the next write will tell.
  void begin() {
    auto& buffer = reader_.buffer();
    if (pending_ || buffer.size() >= request_reader::buffer_limit) return;
    const auto room = std::min<std::size_t>(4096, request_reader::buffer_limit - buffer.size());
    socket_.async_read_some(buffer.prepare(room),
                            [this, held = owner_.hold()](boost::system::error_code failed, std::size_t size) {
                              pending_ = false;
                              reader_.buffer().commit(size);
                              metrics_.bytes_received += size;
                              if (!stopped_) guard(owner_, [&] { on_read(failed); });
                            });
    pending_ = true;
  }

  /// True: watch_ended() follows. False: there was nothing to end.
  bool end() {
    if (!pending_) return false;
    ending_ = true;
    boost::system::error_code ignored;
    socket_.cancel(ignored);
    return true;
  }
  /// Nothing is told any more.
  void stop() noexcept { stopped_ = true; }

private:
  void on_read(boost::system::error_code failed) {
    if (failed && failed != boost::asio::error::operation_aborted) return owner_.client_lost();
    std::exchange(ending_, false) ? owner_.watch_ended() : begin();
  }

  boost::asio::ip::tcp::socket& socket_;
  request_reader& reader_;
  server_metrics& metrics_;
  owner& owner_;
  bool pending_ = false, ending_ = false, stopped_ = false;
};

}  // namespace troupe::server
