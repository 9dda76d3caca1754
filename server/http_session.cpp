// One HTTP connection: head, guard, body, answer, and again. While an answer is under way the socket is read on, so
// that a client's leaving is seen at once; what it sends early (pipelining) waits in the buffer.
#include "server/http_session.hpp"

#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>

#include <algorithm>
#include <optional>

#include "base/clock.hpp"
#include "base/log.hpp"
#include "server/error_table.hpp"
#include "server/event_credit.hpp"
#include "server/exchange.hpp"
#include "server/response_text.hpp"
#include "server/routes.hpp"
#include "server/server_state.hpp"
#include "server/websocket_session.hpp"

namespace troupe::server {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;

// One buffer for heads, chunk borders and trailers: a larger one would let Beast 1.81 buffer a chunk extension without
// bound, or throw on an over-long trailer.
constexpr std::size_t buffer_limit = 64 * 1024;
constexpr std::uint32_t head_limit = 16 * 1024;
constexpr auto linger_time = std::chrono::seconds(2);

class http_session final : public exchange, public connection, public std::enable_shared_from_this<http_session> {
public:
  http_session(asio::ip::tcp::socket socket, std::shared_ptr<server_state> state)
      : state_(std::move(state)), socket_(std::move(socket)), deadline_(socket_.get_executor()), later_(socket_.get_executor()),
        buffer_(buffer_limit) {}

  void run() {
    membership_.emplace(state_, shared_from_this());
    asio::post(socket_.get_executor(), [self = shared_from_this()] {
      if (self->state_->draining) return self->end();
      self->read_head();
    });
  }

  // --- exchange ---
  const request_head& head() const noexcept override { return head_; }
  std::string_view body() const noexcept override { return parser_->get().body(); }
  std::string_view parameter() const noexcept override { return parameter_; }
  server_state& server() noexcept override { return *state_; }
  void post(std::function<void()> task) override {
    if (!state_->closed) asio::post(socket_.get_executor(), std::move(task));
  }

  void after(std::chrono::milliseconds delay, std::function<void()> task) override {
    later_.expires_after(delay);
    later_.async_wait([task = std::move(task)](error_code stopped) {
      if (!stopped) task();
    });
  }

  void attach(std::shared_ptr<running_answer> running) override { running_ = std::move(running); }

  void answer(reply whole) override {
    if (phase_ != phase::answering) return;
    out_ = whole_response(whole, answer_facts());
    status_ = whole.status;
    ending_ = true;
    write();
  }

  void begin_stream(std::string_view content_type) override {
    if (phase_ != phase::answering) return;
    chunked_ = head_.version == 11;
    if (!chunked_) keep_alive_ = false;
    out_ += stream_response_head(content_type, chunked_, answer_facts());
    status_ = 200;
  }

  void stream(std::string_view part, std::uint32_t events) override {
    if (phase_ != phase::answering) return;
    append_part(out_, part, chunked_);
    out_events_ += events;
    // What comes without an event (a first or last chunk) is followed by more: it waits for the loop's next turn.
    if (events == 0 || !write_at_once()) write();
  }

  void end_stream() override {
    if (phase_ != phase::answering) return;
    if (chunked_) out_ += "0\r\n\r\n";
    ending_ = true;
    write();
  }

  void upgrade() override {
    disarm();
    count_answer(101);
    if (buffer_.size() > 0) return end();  // frames before the handshake's answer
    phase_ = phase::ended;
    running_.reset();
    run_websocket(std::move(socket_), parser_->release(), state_);
    membership_.reset();
  }

  // --- connection ---
  void drain() override {
    post([self = shared_from_this()] {
      self->keep_alive_ = false;
      self->draining_ = true;
      if (self->phase_ == phase::idle || (self->phase_ == phase::head && self->buffer_.size() == 0)) self->end();
    });
  }
  void cut() override {
    post([self = shared_from_this()] { self->end(); });
  }

private:
  enum class phase { idle, head, body, answering, lingering, ended };

  response_facts answer_facts() const {
    const auto origin = head_.field("origin");
    const auto& origins = state_->options.allowed_origins;
    const bool listed = std::find(origins.begin(), origins.end(), origin) != origins.end();
    return {request_id_, listed ? origin : std::string_view(), keep_alive_, head_.method == "HEAD"};
  }

  /// One deadline at a time; a new one replaces it.
  void arm(std::chrono::milliseconds limit) {
    deadline_.expires_after(limit);
    deadline_.async_wait([self = shared_from_this(), number = ++deadline_number_](error_code stopped) {
      if (!stopped && number == self->deadline_number_) self->on_deadline();
    });
  }

  void disarm() {
    ++deadline_number_;  // one that has fired already may still wait in the strand
    deadline_.cancel();
  }

  void on_deadline() {
    if (phase_ != phase::head && phase_ != phase::body) return end();
    late_ = true;  // the read ends with operation_aborted and answers 408
    error_code ignored;
    socket_.cancel(ignored);
  }

  // --- reading ---
  void next_request() {
    if (draining_ || state_->draining) return linger();
    if (buffer_.size() > 0) return read_head();
    phase_ = phase::idle;
    arm(state_->options.timeouts.idle);
    socket_.async_wait(asio::ip::tcp::socket::wait_read, [self = shared_from_this()](error_code failed) {
      if (self->phase_ != phase::idle) return;
      if (failed) return self->end();
      self->read_head();
    });
  }

  void read_head() {
    if (phase_ == phase::ended) return;
    phase_ = phase::head;
    head_ = {};
    late_ = false;
    parser_.emplace();
    parser_->header_limit(head_limit);
    parser_->body_limit(boost::none);  // the guard judges Content-Length; the limit is set before the body is read
    arm(state_->options.timeouts.header);
    http::async_read_header(socket_, buffer_, *parser_, [self = shared_from_this()](error_code failed, std::size_t size) {
      self->state_->metrics.bytes_received += size;
      self->on_head(failed);
    });
  }

  void on_head(error_code failed) {
    if (phase_ == phase::ended) return;
    began_ = base::clock::now();
    begin_answering();
    if (failed) return refuse_unreadable(failed);
    copy_head();
    keep_alive_ = parser_->keep_alive() && !draining_ && !state_->draining;
    request_id_ = request_id_for(head_);
    if (auto no = check_framing(head_, state_->rules.max_body)) return refuse(std::move(*no));
    if (auto no = check_access(head_, state_->rules)) return refuse(std::move(*no));
    if (head_.method == "OPTIONS") return answer_preflight();
    if (auto no = find_route()) return refuse(std::move(*no));
    if (head_.method == "POST")
      if (auto no = check_content(head_)) return refuse(std::move(*no));
    if (head_.count("expect") > 0) return expect_continue();
    read_body();
  }

  void refuse_unreadable(error_code failed) {
    request_id_ = request_id_for(head_);
    if (late_) return refuse({408, {errc::deadline_exceeded, "The request did not arrive in time.", {}}});
    if (failed == http::error::header_limit || failed == http::error::buffer_overflow)
      return refuse({431, {errc::invalid_argument, "The request head is too large.", {}}});
    if (failed == http::error::body_limit)
      return refuse({413, {errc::invalid_argument, "The body is over the limit of " + std::to_string(state_->rules.max_body) + " bytes.", {}}});
    if (failed == http::error::end_of_stream || failed == http::error::partial_message || failed.category() != parser_category()) return end();
    refuse({400, {errc::invalid_argument, "This is not an HTTP request: " + failed.message() + ".", {}}});
  }

  static const boost::system::error_category& parser_category() {
    static const auto& category = http::make_error_code(http::error::bad_method).category();
    return category;
  }

  void copy_head() {
    const auto& message = parser_->get();
    head_.method = std::string(message.method_string());
    head_.target = std::string(message.target());
    head_.version = static_cast<int>(message.version());
    for (const auto& each : message) head_.fields.emplace_back(std::string(each.name_string()), std::string(each.value()));
  }

  std::optional<refusal> find_route() {
    auto match = match_route(head_.method, head_.path());
    if (match.found) {
      route_ = match.found;
      parameter_ = std::move(match.parameter);
      return {};
    }
    if (!match.allow.empty())
      return refusal{405, {errc::unsupported, "This path is served with " + match.allow + ".", {}}, has_body(), match.allow};
    if (parser_->get().method() == http::verb::unknown) return refusal{501, {errc::unsupported, "This method is unknown.", {}}};
    return refusal{404, {errc::not_found, "Nothing is served at this path.", {}}, has_body()};
  }

  bool has_body() const { return head_.count("transfer-encoding") > 0 || (head_.count("content-length") > 0 && head_.field("content-length") != "0"); }

  void expect_continue() {
    if (!same_word(head_.field("expect"), "100-continue")) return refuse({417, {errc::unsupported, "The only expectation met is 100-continue.", {}}});
    static constexpr std::string_view go_on = "HTTP/1.1 100 Continue\r\n\r\n";
    arm(state_->options.timeouts.stall);
    asio::async_write(socket_, asio::buffer(go_on), [self = shared_from_this()](error_code failed, std::size_t) {
      if (failed) return self->end();
      self->read_body();
    });
  }

  void read_body() {
    if (phase_ == phase::ended) return;
    if (parser_->is_done()) return dispatch();
    phase_ = phase::body;
    parser_->body_limit(state_->rules.max_body);
    read_some_body();
  }

  void read_some_body() {
    arm(state_->options.timeouts.body);
    http::async_read_some(socket_, buffer_, *parser_, [self = shared_from_this()](error_code failed, std::size_t size) {
      self->state_->metrics.bytes_received += size;
      if (self->phase_ == phase::ended) return;
      if (!failed && !self->parser_->is_done()) return self->read_some_body();
      self->begin_answering();
      if (!failed) return self->dispatch();
      // In a body the full buffer means a chunk line or trailer without end.
      self->refuse_unreadable(failed == http::error::buffer_overflow ? error_code(http::error::bad_chunk_extension) : failed);
    });
  }

  // --- answering ---
  void begin_answering() {
    phase_ = phase::answering;
    disarm();
    ending_ = chunked_ = false;
    status_ = 0;
    out_.clear();
    out_events_ = 0;
    spent_ = {};
  }

  void dispatch() {
    const auto self = shared_from_this();
    phase_ = phase::answering;
    disarm();
    try {
      route_->run(self);
    } catch (const std::exception& fault) {
      ++state_->metrics.faults;
      base::log(base::log_level::error, "server", fault.what());
      if (status_ == 0) answer_error(*this, {errc::internal, "The server failed on this request.", {}});
    }
    if (phase_ == phase::answering && !ending_) watch();
  }

  void refuse(refusal no) {
    if (no.close) keep_alive_ = false;
    reply told{.status = no.status, .body = error_body(no.why)};
    if (!no.allow.empty()) told.fields.emplace_back("Allow", no.allow);
    answer(std::move(told));
  }

  /// A page elsewhere asks whether it may call: only origins named at start may.
  void answer_preflight() {
    const auto match = match_route("", head_.path());
    reply told{.status = 204, .fields = {{"Allow", match.allow + ", OPTIONS"}}};
    if (!answer_facts().allow_origin.empty())
      told.fields.insert(told.fields.end(), {{"Access-Control-Allow-Methods", match.allow},
                                             {"Access-Control-Allow-Headers", "content-type, authorization, last-event-id, x-request-id"}});
    if (has_body()) keep_alive_ = false;
    answer(std::move(told));
  }

  /// Reads on while an answer is under way. The end of the client's stream, half-closed or not, is its leaving.
  void watch() {
    if (watching_ || buffer_.size() >= buffer_limit) return;
    watching_ = true;
    const auto room = std::min<std::size_t>(4096, buffer_limit - buffer_.size());
    socket_.async_read_some(buffer_.prepare(room), [self = shared_from_this()](error_code failed, std::size_t size) {
      self->watching_ = false;
      self->buffer_.commit(size);
      self->state_->metrics.bytes_received += size;
      if (self->phase_ == phase::ended) return;
      if (failed && failed != asio::error::operation_aborted) return self->end();
      if (self->resume_) {
        self->resume_ = false;
        return self->finish_answer();
      }
      if (self->phase_ == phase::answering) self->watch();
    });
  }

  /// Most often the kernel has room for an event: then it costs one call, no timer and no turn of the loop. False: it has
  /// taken none or a part, or a write is under way.
  bool write_at_once() {
    error_code failed;
    if (writing_ || (!socket_.non_blocking() && socket_.non_blocking(true, failed))) return false;
    const std::size_t size = socket_.write_some(asio::buffer(out_), failed);
    if (failed) return false;  // no room, or an error that write() will meet again
    state_->metrics.bytes_sent += size;
    out_.erase(0, size);
    if (!out_.empty()) return false;
    return_credit(std::exchange(out_events_, 0));
    return true;
  }

  void return_credit(std::uint32_t events) {
    if (const auto back = spent_.add(events); back > 0 && running_) running_->written(back);
  }

  /// At most one write at a time; what comes meanwhile is joined into the next.
  void write() {
    if (writing_ || out_.empty()) return;
    writing_ = true;
    in_flight_.swap(out_);
    out_.clear();
    in_flight_events_ = std::exchange(out_events_, 0);
    sent_ = 0;
    write_some();
  }

  void write_some() {
    arm(state_->options.timeouts.stall);
    socket_.async_write_some(asio::buffer(in_flight_) + sent_, [self = shared_from_this()](error_code failed, std::size_t size) {
      self->state_->metrics.bytes_sent += size;
      if (self->phase_ == phase::ended) return;
      if (failed) return self->end();
      self->sent_ += size;
      if (self->sent_ < self->in_flight_.size()) return self->write_some();
      self->on_written();
    });
  }

  void on_written() {
    writing_ = false;
    disarm();
    if (!ending_) return_credit(in_flight_events_);
    if (!out_.empty()) return write();
    if (!ending_) return;
    if (!watching_) return finish_answer();
    resume_ = true;
    error_code ignored;
    socket_.cancel(ignored);
  }

  void finish_answer() {
    running_.reset();
    later_.cancel();
    count_answer(status_);
    route_ = nullptr;
    if (!keep_alive_) return linger();
    next_request();
  }

  void count_answer(int status) {
    state_->metrics.count_request(route_ ? route_->path : "none", status);
    const auto spent = base::to_milliseconds(base::clock::now() - began_);
    base::log(base::log_level::info, "http", head_.method + " " + std::string(head_.path().substr(0, 200)) + " " + std::to_string(status) + " " +
                                                 std::to_string(static_cast<long>(spent)) + " ms");
  }

  // --- ending ---
  /// Says that nothing more comes, and reads what is left: closing on unread bytes would take the answer back (RST).
  void linger() {
    phase_ = phase::lingering;
    error_code failed;
    socket_.shutdown(asio::ip::tcp::socket::shutdown_send, failed);
    if (failed) return end();
    arm(linger_time);
    discard();
  }

  void discard() {
    buffer_.clear();
    socket_.async_read_some(buffer_.prepare(buffer_limit), [self = shared_from_this()](error_code failed, std::size_t) {
      if (failed || self->phase_ == phase::ended) return self->end();
      self->discard();
    });
  }

  void end() {
    if (phase_ == phase::answering && status_ != 0 && !ending_) count_answer(499);
    phase_ = phase::ended;
    disarm();
    later_.cancel();
    if (auto running = std::exchange(running_, nullptr)) running->client_gone();
    error_code ignored;
    socket_.close(ignored);
    membership_.reset();
  }

  std::shared_ptr<server_state> state_;
  std::optional<membership> membership_;
  asio::ip::tcp::socket socket_;
  asio::steady_timer deadline_, later_;
  boost::beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;

  phase phase_ = phase::head;
  request_head head_;
  const route* route_ = nullptr;
  std::string parameter_, request_id_;
  base::time_point began_;
  bool keep_alive_ = false, draining_ = false, late_ = false;

  std::uint64_t deadline_number_ = 0;

  std::shared_ptr<running_answer> running_;
  std::string out_, in_flight_;
  std::size_t sent_ = 0;
  std::uint32_t out_events_ = 0, in_flight_events_ = 0;
  spent_credit spent_;
  int status_ = 0;
  bool ending_ = false, chunked_ = false, writing_ = false;
  bool watching_ = false;  ///< a read is pending beside the answer
  bool resume_ = false;    ///< the answer is written; the watching read is being cancelled
};

}  // namespace

void run_http_session(asio::ip::tcp::socket socket, std::shared_ptr<server_state> state) {
  std::make_shared<http_session>(std::move(socket), std::move(state))->run();
}

}  // namespace troupe::server
