// Beast's parser, step by step.
#include "server/request_reader.hpp"

#include <boost/asio/write.hpp>
#include <boost/beast/http/error.hpp>

#include <algorithm>
#include <utility>

#include "server/guard.hpp"

namespace troupe::server {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;

constexpr std::uint32_t head_limit = 16 * 1024;
constexpr std::size_t body_read = 32 * 1024;  ///< bytes asked of the kernel at a time

const boost::system::error_category& parser_category() {
  static const auto& category = http::make_error_code(http::error::bad_method).category();
  return category;
}

}  // namespace

bool request_reader::expire() {
  if (!reading_) return false;
  late_ = true;  // the read ends with operation_aborted
  error_code ignored;
  socket_.cancel(ignored);
  return true;
}

void request_reader::read() {
  head_ = {};
  has_head_ = late_ = false;
  reading_ = true;
  parser_.emplace();
  parser_->header_limit(head_limit);
  parser_->body_limit(boost::none);  // the guard judges Content-Length; the limit is set before the body is read
  last_ = {};
  owner_.waits_for_client(state_.options.timeouts.header);
  parse_head();
}

/// As Beast's async_read_header does it, but that folded fields are seen: its parser unfolds them without a word.
void request_reader::parse_head() {
  error_code failed;
  if (buffer_.size() > 0) {
    const std::size_t size = parser_->put(buffer_.data(), failed);
    const bool folded = holds_fold({static_cast<const char*>(buffer_.data().data()), size});
    buffer_.consume(size);
    if (failed == http::error::need_more) failed = {};
    if (folded && !failed) failed = http::error::bad_value;
    if (failed || parser_->is_header_done()) return on_head(failed);
  }
  const std::size_t room = std::min<std::size_t>(4096, buffer_limit - buffer_.size());
  if (room == 0) return on_head(http::error::buffer_overflow);
  socket_.async_read_some(buffer_.prepare(room), [this, held = owner_.hold()](error_code ended, std::size_t size) {
    buffer_.commit(size);
    state_.metrics.bytes_received += size;
    if (stopped_) return;
    guard(owner_, [&] { ended ? on_head(ended) : parse_head(); });
  });
}

/// RFC 9112, 5.2: a line end followed by a blank continues a field. `bytes` follow those of the last call.
bool request_reader::holds_fold(std::string_view bytes) noexcept {
  bool found = false;
  for (const char c : bytes) {
    found = found || (last_[0] == '\r' && last_[1] == '\n' && (c == ' ' || c == '\t'));
    last_ = {last_[1], c};
  }
  return found;
}

void request_reader::on_head(error_code failed) {
  reading_ = false;
  if (failed) return tell_failure(failed);
  copy_head();
  has_head_ = true;
  if (!owner_.head_arrived(parser_->get().method() != http::verb::unknown)) return;
  if (head_.count("expect") > 0) return expect_continue();
  read_body();
}

void request_reader::tell_failure(error_code failed) {
  if (late_) return owner_.request_failed({408, {errc::deadline_exceeded, "The request did not arrive in time.", {}}});
  if (failed == http::error::header_limit || failed == http::error::buffer_overflow)
    return owner_.request_failed({431, {errc::invalid_argument, "The request head is too large.", {}}});
  if (failed == http::error::body_limit)
    return owner_.request_failed({413,
                                  {errc::invalid_argument,
                                   "The body is over the limit of " + std::to_string(state_.rules.max_body) + " bytes.",
                                   {}}});
  if (failed == http::error::end_of_stream || failed == http::error::partial_message ||
      failed.category() != parser_category())
    return owner_.client_lost();
  owner_.request_failed({400, {errc::invalid_argument, "This is not an HTTP request: " + failed.message() + ".", {}}});
}

void request_reader::copy_head() {
  const auto& message = parser_->get();
  head_.method = std::string(message.method_string());
  head_.target = std::string(message.target());
  head_.version = static_cast<int>(message.version());
  for (const auto& each : message)
    head_.fields.emplace_back(std::string(each.name_string()), std::string(each.value()));
}

void request_reader::expect_continue() {
  if (!same_word(head_.field("expect"), "100-continue"))
    return owner_.request_failed({417, {errc::unsupported, "The only expectation met is 100-continue.", {}}});
  static constexpr std::string_view go_on = "HTTP/1.1 100 Continue\r\n\r\n";
  owner_.waits_for_client(state_.options.timeouts.stall);
  asio::async_write(socket_, asio::buffer(go_on), [this, held = owner_.hold()](error_code failed, std::size_t) {
    if (stopped_) return;
    guard(owner_, [&] { failed ? owner_.client_lost() : read_body(); });
  });
}

void request_reader::read_body() {
  if (parser_->is_done()) return owner_.request_arrived();
  reading_ = true;
  parser_->body_limit(state_.rules.max_body);
  parser_->eager(true);  // all that has come at a time, however many chunks
  parse_body();
}

void request_reader::parse_body() {
  error_code failed;
  if (buffer_.size() > 0) {
    make_room_for_body();
    buffer_.consume(parser_->put(buffer_.data(), failed));
    if (failed == http::error::need_more) failed = {};
    if (failed || parser_->is_done()) return on_body(failed);
  }
  const std::size_t room = buffer_limit - buffer_.size();
  if (room == 0) return on_body(http::error::bad_chunk_extension);  // a chunk line or trailer without end
  owner_.waits_for_client(state_.options.timeouts.body);
  socket_.async_read_some(buffer_.prepare(std::min(room, body_read)),
                          [this, held = owner_.hold()](error_code ended, std::size_t size) {
                            buffer_.commit(size);
                            state_.metrics.bytes_received += size;
                            if (stopped_) return;
                            guard(owner_, [&] { ended ? on_body(ended) : parse_body(); });
                          });
}

/// Beast makes room for a body whose length was said. One in chunks gets, once it is large, address space for the
/// largest there may be: memory comes with its bytes, and nothing is copied again and again while it grows.
void request_reader::make_room_for_body() {
  auto& body = parser_->get().body();
  const bool said = parser_->content_length().has_value();
  if (!said && body.size() + buffer_.size() > buffer_limit && body.capacity() < state_.rules.max_body)
    body.reserve(state_.rules.max_body);
}

void request_reader::on_body(error_code failed) {
  reading_ = false;
  failed ? tell_failure(failed) : owner_.request_arrived();
}

}  // namespace troupe::server
