// The bytes of an answer on their way into a socket: one write at a time, and what comes meanwhile is joined into the
// next. Knows no HTTP, no request and no deadline.
#pragma once

#include <boost/asio/ip/tcp.hpp>

#include <cstdint>
#include <exception>
#include <memory>
#include <string>

#include "server/server_metrics.hpp"

namespace troupe::server {

/// A part of a session: lives in it, runs on its strand.
class answer_writer {
public:
  class owner {
  public:
    virtual std::shared_ptr<void> hold() = 0;        ///< what keeps both alive while a write is pending
    virtual void write_begins() = 0;                 ///< bytes wait for the client from now on
    virtual void written(std::uint32_t events) = 0;  ///< all that waited: is in the kernel; may add more
    virtual void all_written() = 0;                  ///< and nothing more was added
    virtual void write_failed() = 0;
    virtual void failed(const std::exception& fault) noexcept = 0;  ///< a handler of ours has thrown

  protected:
    ~owner() = default;
  };

  answer_writer(boost::asio::ip::tcp::socket& socket, server_metrics& metrics, owner& whose) noexcept
      : socket_(socket), metrics_(metrics), owner_(whose) {}

  /// Where the next bytes are put; write() or write_at_once() sends them.
  std::string& out() noexcept { return out_; }
  /// How many events the bytes just put there hold.
  void add_events(std::uint32_t events) noexcept { out_events_ += events; }
  void write();
  /// Most often the kernel has room for an event: then it costs one call, no timer and no turn of the loop. False: it
  /// has taken none or a part, or a write is under way, and write() is to follow.
  bool write_at_once();

  bool writing() const noexcept { return writing_; }
  /// Forgets what has not begun to be written: another answer begins.
  void begin() noexcept;
  /// Nothing is told any more.
  void stop() noexcept { stopped_ = true; }

private:
  void write_some();
  void on_written();

  boost::asio::ip::tcp::socket& socket_;
  server_metrics& metrics_;
  owner& owner_;
  std::string out_, in_flight_;
  std::size_t sent_ = 0;
  std::uint32_t out_events_ = 0, in_flight_events_ = 0;
  bool writing_ = false, stopped_ = false;
};

}  // namespace troupe::server
