// One WebSocket: frames of JSON text, written one at a time, read only while few answers wait to be written.
// Knows no message: live_generations does.
#include "server/websocket_session.hpp"

#include <boost/asio/post.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/field.hpp>
#include <boost/beast/websocket.hpp>

#include <algorithm>
#include <deque>
#include <optional>

#include "base/clock.hpp"
#include "base/log.hpp"
#include "server/break_switch.hpp"
#include "server/counted_socket.hpp"
#include "server/deadline.hpp"
#include "server/guard.hpp"
#include "server/http_session.hpp"
#include "server/live_generations.hpp"
#include "server/server_state.hpp"

namespace troupe::server {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace websocket = beast::websocket;
using boost::system::error_code;

constexpr std::size_t max_message = 1 << 20;
constexpr std::size_t frame_head = 6;     ///< bytes of a small frame beside its payload
constexpr std::size_t most_parts = 1024;  ///< of a message; a large one has more, but not of so few bytes
constexpr std::size_t least_part = 64;
constexpr int most_controls = 50;         ///< pings and pongs a second
constexpr std::size_t max_waiting = 256;  ///< frames; beyond it nothing more is read from a client that does not read
constexpr std::size_t max_waiting_bytes = 1 << 16;  ///< likewise

class websocket_session final : public frame_writer,
                                public connection,
                                public std::enable_shared_from_this<websocket_session> {
public:
  websocket_session(asio::ip::tcp::socket socket, visitor who, std::shared_ptr<server_state> state)
      : state_(std::move(state)), seat_(std::move(who.seat)), link_(std::move(socket)),
        break_(beast::get_lowest_layer(link_).native_handle()), stall_(link_.get_executor()),
        unfinished_(link_.get_executor()), buffer_(max_message + 4096), live_(*state_, who.from) {
    ++state_->metrics.open_websockets;
  }
  ~websocket_session() override { --state_->metrics.open_websockets; }

  void run(beast::http::request<beast::http::string_body> upgrade) {
    membership_.emplace(state_, shared_from_this());
    auto timeouts = websocket::stream_base::timeout::suggested(beast::role_type::server);
    timeouts.handshake_timeout = state_->options.timeouts.header;
    timeouts.idle_timeout = state_->options.timeouts.idle;
    timeouts.keep_alive_pings = true;
    link_.set_option(timeouts);
    link_.set_option(websocket::stream_base::decorator([](websocket::response_type& answer) {
      answer.set(beast::http::field::sec_websocket_protocol, "troupe.v1");
      answer.set(beast::http::field::server, "troupe");
    }));
    link_.read_message_max(max_message);
    link_.text(true);
    link_.control_callback(
        [this](websocket::frame_type kind, beast::string_view text) { count_control(kind, text.size()); });
    link_.next_layer().on_bytes([this](std::size_t size) { count_bytes(size); });
    upgrade_ = std::move(upgrade);
    link_.async_accept(
        upgrade_, [self = shared_from_this()](error_code failed) { guard(*self, [&] { self->on_open(failed); }); });
  }

  /// Something here has thrown: the client hears 1011 where there is memory to say so.
  void failed(const std::exception& fault) noexcept {
    ++state_->metrics.faults;
    base::log(base::log_level::error, "server", fault.what());
    try {
      if (closing_ || broken_) return end();
      close(websocket::close_code::internal_error);
    } catch (const std::exception&) {
      end();
    }
  }

  void post(std::function<void()> task) override {
    if (state_->closed) return;
    asio::post(link_.get_executor(), [self = shared_from_this(), task = std::move(task)] { guard(*self, task); });
  }
  void break_off() noexcept override { break_.press(); }

  void send(std::string frame, std::function<void()> written) override {
    if (!open_) return;
    waiting_bytes_ += frame.size();
    waiting_.push_back({std::move(frame), std::move(written)});
    if (waiting_.size() == 1) write();
  }

  void generations_ended() override {
    if (draining_) close(websocket::close_code::going_away);
  }

  void drain() override {
    post([self = shared_from_this()] {
      self->draining_ = true;
      if (self->open_ && self->live_.empty()) self->close(websocket::close_code::going_away);
    });
  }

  void cut() override {
    post([self = shared_from_this()] { self->end(); });
  }

private:
  struct outgoing {
    std::string frame;
    std::function<void()> written;
  };

  void on_open(error_code failed) {
    upgrade_ = {};
    if (failed) return end();
    open_ = true;
    if (draining_ || state_->draining) drain();
    read();
  }

  void read() {
    reading_ = broken_ = true;
    link_.async_read_some(buffer_, 0, [self = shared_from_this()](error_code failed, std::size_t size) {
      guard(*self, [&] { self->on_read(failed, size); });
    });
    broken_ = false;
  }

  void on_read(error_code failed, std::size_t size) {
    reading_ = false;
    state_->metrics.bytes_received += size;
    if (failed) return end();  // Beast has answered a broken frame with its close code
    overhead_ -= std::min(overhead_, size);
    if (!link_.is_message_done()) return read_on();
    parts_ = overhead_ = 0;
    nothing_begun();
    if (!link_.got_text()) return close(websocket::close_code::unknown_data);
    if (!open_) return;
    const auto bytes = buffer_.cdata();
    if (state_->draining) live_.refuse_new();  // true before any socket is told
    live_.receive({static_cast<const char*>(bytes.data()), bytes.size()}, shared_from_this());
    buffer_.consume(buffer_.size());
    resume_reading();
  }

  /// Of a message that has begun.
  void read_on() {
    if (++parts_ > most_parts && buffer_.size() < parts_ * least_part)
      return close(websocket::close_code::policy_error);
    time_message();
    if (!closing_) read();
  }

  void time_message() {
    if (!std::exchange(unfinished_armed_, true))
      unfinished_.arm(state_->options.timeouts.body, [self = shared_from_this()] {
        guard(*self, [&] { self->close(websocket::close_code::policy_error); });
      });
  }

  void nothing_begun() {
    unfinished_.disarm();
    unfinished_armed_ = false;
  }

  /// Called within a read: what it decides happens after it. Beast reads empty fragments without a word, as many as
  /// come; what has been read and given out neither as text nor as a ping is theirs.
  void count_bytes(std::size_t size) {
    if (closing_) return;
    time_message();
    if (overhead_ > frame_head * std::max(most_parts, buffer_.size() / least_part))
      return post([self = shared_from_this()] { self->close(websocket::close_code::policy_error); });
    overhead_ += size;
  }

  /// Likewise.
  void count_control(websocket::frame_type kind, std::size_t size) {
    overhead_ -= std::min(overhead_, frame_head + size);
    if (overhead_ == 0 && parts_ == 0) nothing_begun();
    if (kind == websocket::frame_type::close) return;
    const auto now = base::clock::now();
    if (now - second_ >= std::chrono::seconds(1)) {
      second_ = now;
      controls_ = 0;
    }
    if (++controls_ == most_controls + 1)
      post([self = shared_from_this()] { self->close(websocket::close_code::policy_error); });
  }

  void resume_reading() {
    if (open_ && !reading_ && waiting_.size() < max_waiting && waiting_bytes_ < max_waiting_bytes) read();
  }

  void write() {
    stall_.arm(state_->options.timeouts.stall, [self = shared_from_this()] { guard(*self, [&] { self->give_up(); }); });
    broken_ = true;
    link_.async_write(asio::buffer(waiting_.front().frame),
                      [self = shared_from_this()](error_code failed, std::size_t size) {
                        guard(*self, [&] { self->on_written(failed, size); });
                      });
    broken_ = false;
  }

  void on_written(error_code failed, std::size_t size) {
    stall_.disarm();
    state_->metrics.bytes_sent += size;
    if (failed) return end();
    auto written = std::move(waiting_.front().written);
    waiting_bytes_ -= waiting_.front().frame.size();
    waiting_.pop_front();
    if (written) written();
    if (!waiting_.empty()) return write();
    if (closing_) return send_close();
    resume_reading();
  }

  /// What waits is written first.
  void close(websocket::close_code code) {
    if (closing_) return;
    closing_ = code;
    open_ = false;
    live_.drop_all();
    if (waiting_.empty()) send_close();
  }

  /// The client reads nothing. It hears of it if it takes the frame that is under way after all.
  void give_up() {
    if (closing_) return end();
    closing_ = websocket::close_code::try_again_later;
    open_ = false;
    live_.drop_all();
    waiting_.erase(waiting_.begin() + 1, waiting_.end());
    end_after_a_while();
  }

  void end_after_a_while() {
    stall_.arm(state_->options.timeouts.close, [self = shared_from_this()] { self->end(); });
  }

  void send_close() {
    end_after_a_while();
    // Weak: behind a lock that a fault has left taken it would wait for ever, and keep the session that holds it.
    link_.async_close(*closing_, [session = weak_from_this()](error_code) {
      if (const auto self = session.lock()) self->end();
    });
  }

  void end() noexcept {
    open_ = false;
    stall_.disarm();
    unfinished_.disarm();
    break_.take_out();
    live_.drop_all();
    error_code ignored;
    beast::get_lowest_layer(link_).close(ignored);
    membership_.reset();
  }

  std::shared_ptr<server_state> state_;
  address_shares::place seat_;
  std::optional<membership> membership_;
  websocket::stream<counted_socket> link_;
  break_switch break_;
  deadline stall_;
  deadline unfinished_;  ///< of the message that is being read, from its first byte on
  beast::flat_buffer buffer_;
  beast::http::request<beast::http::string_body> upgrade_;
  std::deque<outgoing> waiting_;  ///< the front one is being written
  std::size_t waiting_bytes_ = 0;
  bool open_ = false, reading_ = false, draining_ = false;
  bool broken_ = false;       ///< an operation is beginning, or has thrown there and left the link's locks taken
  std::size_t parts_ = 0;     ///< of the message that is being read, so far
  std::size_t overhead_ = 0;  ///< its bytes that are neither text nor a ping's, so far
  bool unfinished_armed_ = false;
  base::time_point second_ = {};
  int controls_ = 0;  ///< pings and pongs of this second
  std::optional<websocket::close_code> closing_;
  live_generations live_;
};

}  // namespace

void run_websocket(asio::ip::tcp::socket socket, visitor who, beast::http::request<beast::http::string_body> upgrade,
                   std::shared_ptr<server_state> state) {
  std::make_shared<websocket_session>(std::move(socket), std::move(who), std::move(state))->run(std::move(upgrade));
}

}  // namespace troupe::server
