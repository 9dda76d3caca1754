// Reads one request after another from a connection: head, then body, each under its limit and its deadline.
// Knows no route and no answer but "100 Continue".
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include <array>
#include <chrono>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "server/request_guard.hpp"
#include "server/request_head.hpp"
#include "server/server_state.hpp"

namespace troupe::server {

/// A part of a session: lives in it, runs on its strand.
class request_reader {
public:
  using message = boost::beast::http::request<boost::beast::http::string_body>;

  class owner {
  public:
    virtual std::shared_ptr<void> hold() = 0;                      ///< what keeps both alive while a read is pending
    virtual void waits_for_client(std::chrono::milliseconds) = 0;  ///< from now on, at most so long
    virtual bool head_arrived(bool known_method) = 0;              ///< false: it has been answered, no body is wanted
    virtual void request_arrived() = 0;
    virtual void request_failed(refusal why) = 0;  ///< broken, too large or late: to be told
    virtual void client_lost() = 0;
    virtual void failed(const std::exception& fault) noexcept = 0;  ///< a handler of ours has thrown

  protected:
    ~owner() = default;
  };

  // One buffer for heads, chunk borders and trailers: a larger one would let Beast 1.81 buffer a chunk extension
  // without bound, or throw on an over-long trailer.
  static constexpr std::size_t buffer_limit = 64 * 1024;

  request_reader(boost::asio::ip::tcp::socket& socket, server_state& state, owner& whose)
      : socket_(socket), state_(state), owner_(whose), buffer_(buffer_limit) {}

  void read();
  const request_head& head() const noexcept { return head_; }
  bool has_head() const noexcept { return has_head_; }
  /// No byte of a request has come yet.
  bool untouched() const noexcept { return !has_head_ && buffer_.size() == 0; }
  std::string_view body() const noexcept { return parser_->get().body(); }
  bool keep_alive() const { return parser_->keep_alive(); }
  message release() { return parser_->release(); }
  /// What has been sent ahead of the next read.
  boost::beast::flat_buffer& buffer() noexcept { return buffer_; }
  /// Of a deadline: a read that is pending ends with 408. False: none is.
  bool expire();
  /// Nothing is told any more.
  void stop() noexcept { stopped_ = true; }

private:
  using error_code = boost::system::error_code;
  void parse_head();
  bool holds_fold(std::string_view bytes) noexcept;
  void on_head(error_code failed);
  void tell_failure(error_code failed);
  void copy_head();
  void expect_continue();
  void read_body();
  void parse_body();
  void make_room_for_body();
  void on_body(error_code failed);

  boost::asio::ip::tcp::socket& socket_;
  server_state& state_;
  owner& owner_;
  boost::beast::flat_buffer buffer_;
  std::optional<boost::beast::http::request_parser<boost::beast::http::string_body>> parser_;
  request_head head_;
  std::array<char, 2> last_{};  ///< bytes of the head that is being read
  bool reading_ = false, has_head_ = false, late_ = false, stopped_ = false;
};

}  // namespace troupe::server
