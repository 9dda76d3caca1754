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
#include "server/deadline.hpp"
#include "server/live_generations.hpp"
#include "server/server_state.hpp"

namespace troupe::server {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace websocket = beast::websocket;
using boost::system::error_code;

constexpr std::size_t max_message = 1 << 20;
constexpr std::size_t most_parts = 1024;  ///< of a message; a large one has more, but not of so few bytes
constexpr std::size_t least_part = 64;
constexpr int most_controls = 50;  ///< pings and pongs a second
constexpr std::size_t max_waiting = 256;  ///< frames; beyond it nothing more is read from a client that does not read

class websocket_session final : public frame_writer, public connection, public std::enable_shared_from_this<websocket_session> {
public:
  websocket_session(asio::ip::tcp::socket socket, std::shared_ptr<server_state> state)
      : state_(std::move(state)), link_(std::move(socket)), stall_(link_.get_executor()), unfinished_(link_.get_executor()), buffer_(max_message + 4096),
        live_(state_->engine, state_->options.max_live_generations) {
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
    link_.control_callback([this](websocket::frame_type kind, beast::string_view) { count_control(kind); });
    upgrade_ = std::move(upgrade);
    link_.async_accept(upgrade_, [self = shared_from_this()](error_code failed) {
      self->upgrade_ = {};
      if (failed) return self->end();
      self->open_ = true;
      self->begin();
    });
  }

  void post(std::function<void()> task) override {
    if (!state_->closed) asio::post(link_.get_executor(), std::move(task));
  }

  void send(std::string frame, std::function<void()> written) override {
    if (!open_) return;
    waiting_.push_back({std::move(frame), std::move(written)});
    if (waiting_.size() == 1) write();
  }

  void generations_ended() override {
    if (draining_) close(websocket::close_code::going_away);
  }

  void drain() override {
    post([self = shared_from_this()] {
      self->draining_ = true;
      self->live_.refuse_new();
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

  void begin() {
    if (draining_ || state_->draining) drain();
    read();
  }

  void read() {
    reading_ = true;
    link_.async_read_some(buffer_, 0, [self = shared_from_this()](error_code failed, std::size_t size) { self->on_read(failed, size); });
  }

  void on_read(error_code failed, std::size_t size) {
    reading_ = false;
    state_->metrics.bytes_received += size;
    if (failed) return end();  // Beast has answered a broken frame with its close code
    if (!link_.is_message_done()) return read_on();
    unfinished_.disarm();
    parts_ = 0;
    if (!link_.got_text()) return close(websocket::close_code::unknown_data);
    if (!open_) return;
    const auto bytes = buffer_.cdata();
    live_.receive({static_cast<const char*>(bytes.data()), bytes.size()}, shared_from_this());
    buffer_.consume(buffer_.size());
    resume_reading();
  }

  /// Of a message that has begun.
  void read_on() {
    if (++parts_ > most_parts && buffer_.size() < parts_ * least_part) return close(websocket::close_code::policy_error);
    if (parts_ == 1)
      unfinished_.arm(state_->options.timeouts.body, [self = shared_from_this()] { self->close(websocket::close_code::policy_error); });
    if (!closing_) read();
  }

  /// Called within a read: what it decides happens after it.
  void count_control(websocket::frame_type kind) {
    if (kind == websocket::frame_type::close) return;
    const auto now = base::clock::now();
    if (now - second_ >= std::chrono::seconds(1)) {
      second_ = now;
      controls_ = 0;
    }
    if (++controls_ == most_controls + 1) post([self = shared_from_this()] { self->close(websocket::close_code::policy_error); });
  }

  void resume_reading() {
    if (open_ && !reading_ && waiting_.size() < max_waiting) read();
  }

  void write() {
    stall_.arm(state_->options.timeouts.stall, [self = shared_from_this()] { self->end(); });
    link_.async_write(asio::buffer(waiting_.front().frame),
                      [self = shared_from_this()](error_code failed, std::size_t size) { self->on_written(failed, size); });
  }

  void on_written(error_code failed, std::size_t size) {
    stall_.disarm();
    state_->metrics.bytes_sent += size;
    if (failed) return end();
    auto written = std::move(waiting_.front().written);
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

  void send_close() {
    stall_.arm(std::min(state_->options.timeouts.stall, std::chrono::milliseconds(5000)), [self = shared_from_this()] { self->end(); });
    link_.async_close(*closing_, [self = shared_from_this()](error_code) { self->end(); });
  }

  void end() {
    open_ = false;
    stall_.disarm();
    unfinished_.disarm();
    live_.drop_all();
    error_code ignored;
    link_.next_layer().close(ignored);
    membership_.reset();
  }

  std::shared_ptr<server_state> state_;
  std::optional<membership> membership_;
  websocket::stream<asio::ip::tcp::socket> link_;
  deadline stall_;
  deadline unfinished_;  ///< of the message that is being read
  beast::flat_buffer buffer_;
  beast::http::request<beast::http::string_body> upgrade_;
  std::deque<outgoing> waiting_;  ///< the front one is being written
  bool open_ = false, reading_ = false, draining_ = false;
  std::size_t parts_ = 0;  ///< of the message that is being read, so far
  base::time_point second_ = {};
  int controls_ = 0;  ///< pings and pongs of this second
  std::optional<websocket::close_code> closing_;
  live_generations live_;
};

}  // namespace

void run_websocket(asio::ip::tcp::socket socket, beast::http::request<beast::http::string_body> upgrade, std::shared_ptr<server_state> state) {
  std::make_shared<websocket_session>(std::move(socket), std::move(state))->run(std::move(upgrade));
}

}  // namespace troupe::server
