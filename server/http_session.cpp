// One HTTP connection: head, guard, body, answer, and again. Its parts read, watch and write; here is what follows
// what.
#include "server/http_session.hpp"

#include <boost/asio/post.hpp>
#include <optional>
#include <utility>

#include "base/clock.hpp"
#include "base/log.hpp"
#include "server/answer_writer.hpp"
#include "server/break_switch.hpp"
#include "server/client_watch.hpp"
#include "server/deadline.hpp"
#include "server/event_credit.hpp"
#include "server/exchange.hpp"
#include "server/guard.hpp"
#include "server/head_verdict.hpp"
#include "server/lingering_close.hpp"
#include "server/request_reader.hpp"
#include "server/response_text.hpp"
#include "server/routes.hpp"
#include "server/server_state.hpp"
#include "server/websocket_session.hpp"

namespace troupe::server {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

class http_session final : public exchange,
                           public connection,
                           private answer_writer::owner,
                           private client_watch::owner,
                           private request_reader::owner,
                           public std::enable_shared_from_this<http_session> {
public:
  http_session(asio::ip::tcp::socket socket, visitor who, std::shared_ptr<server_state> state)
      : state_(std::move(state)), who_(std::move(who)), socket_(std::move(socket)), break_(socket_.native_handle()),
        deadline_(socket_.get_executor()), later_(socket_.get_executor()), reader_(socket_, *state_, *this),
        watch_(socket_, reader_, state_->metrics, *this), writer_(socket_, state_->metrics, *this) {}

  void run() {
    membership_.emplace(state_, shared_from_this());
    post([self = shared_from_this()] {
      if (self->state_->draining) return self->end();
      self->who_.welcome ? self->read_head() : self->request_failed({429, self->state_->too_many_from_one_address()});
    });
  }

  /// Something here has thrown. A client that still waits for the first byte of its answer is told; others see the end.
  void failed(const std::exception& fault) noexcept override {
    ++state_->metrics.faults;
    base::log(base::log_level::error, "server", fault.what());
    try {
      if (phase_ != phase::answering || status_ != 0) return end();
      if (auto running = std::exchange(running_, nullptr)) running->client_gone();
      keep_alive_ = false;
      answer_error(*this, {errc::internal, "The server failed on this request.", {}});
    } catch (const std::exception&) {
      end();
    }
  }

  // --- exchange ---
  const request_head& head() const noexcept override { return reader_.head(); }
  std::string_view body() const noexcept override { return reader_.body(); }
  std::string_view parameter() const noexcept override { return parameter_; }
  server_state& server() noexcept override { return *state_; }
  const client_address& peer() const noexcept override { return who_.from; }
  void post(std::function<void()> task) override {
    if (state_->closed) return;
    asio::post(socket_.get_executor(), [self = shared_from_this(), task = std::move(task)] { guard(*self, task); });
  }
  void break_off() noexcept override { break_.press(); }
  void after(std::chrono::milliseconds delay, std::function<void()> task) override {
    later_.arm(delay, [self = shared_from_this(), task = std::move(task)] { guard(*self, task); });
  }

  void attach(std::shared_ptr<running_answer> running) override { running_ = std::move(running); }

  void answer(reply whole) override {
    if (phase_ != phase::answering) return;
    writer_.out() = whole_response(whole, answer_facts());
    status_ = whole.status;
    ending_ = true;
    writer_.write();
  }

  void begin_stream(std::string_view content_type) override {
    if (phase_ != phase::answering) return;
    chunked_ = head().version == 11;
    if (!chunked_) keep_alive_ = false;
    writer_.out() += stream_response_head(content_type, chunked_, answer_facts());
    status_ = 200;
  }

  void stream(std::string_view part, std::uint32_t events) override {
    if (phase_ != phase::answering) return;
    append_part(writer_.out(), part, chunked_);
    writer_.add_events(events);
    // What comes without an event (a first or last chunk) is followed by more: it waits for the loop's next turn.
    if (events == 0 || !writer_.write_at_once()) writer_.write();
  }

  void end_stream() override {
    if (phase_ != phase::answering) return;
    if (chunked_) writer_.out() += "0\r\n\r\n";
    ending_ = true;
    writer_.write();
  }

  void upgrade() override {
    deadline_.disarm();
    if (reader_.buffer().size() > 0) {
      keep_alive_ = false;
      return answer(
          error_reply(400, {errc::invalid_argument, "Nothing may follow a handshake before its answer.", {}}));
    }
    count_answer(101);
    phase_ = phase::ended;
    running_.reset();
    break_.take_out();
    run_websocket(std::move(socket_), std::move(who_), reader_.release(), state_);
    membership_.reset();
  }

  // --- connection ---
  void drain() override {
    post([self = shared_from_this()] {
      self->keep_alive_ = false;
      self->draining_ = true;
      if (self->phase_ == phase::idle || (self->phase_ == phase::reading && self->reader_.untouched())) self->end();
    });
  }
  void cut() override {
    post([self = shared_from_this()] { self->end(); });
  }

private:
  enum class phase { idle, reading, answering, lingering, ended };

  response_facts answer_facts() const {
    return {request_id_, listed_origin(head(), state_->rules), keep_alive_, head().method == "HEAD"};
  }

  void arm(std::chrono::milliseconds limit) {
    deadline_.arm(limit, [self = shared_from_this()] {
      guard(*self, [&] {
        if (!self->reader_.expire()) self->end();
      });
    });
  }

  // --- reading ---
  void next_request() {
    if (draining_ || state_->draining) return linger();
    if (reader_.buffer().size() > 0) return read_head();
    phase_ = phase::idle;
    arm(state_->options.timeouts.idle);
    socket_.async_wait(asio::ip::tcp::socket::wait_read, [self = shared_from_this()](error_code failed) {
      guard(*self, [&] {
        if (self->phase_ == phase::idle) failed ? self->end() : self->read_head();
      });
    });
  }

  void read_head() {
    phase_ = phase::reading;
    reader_.read();
  }

  // --- request_reader::owner ---
  void waits_for_client(std::chrono::milliseconds limit) override { arm(limit); }
  void client_lost() override { end(); }

  bool head_arrived(bool known_method) override {
    begin_answering();
    began_ = base::clock::now();
    keep_alive_ = reader_.keep_alive() && !draining_ && !state_->draining;
    request_id_ = request_id_for(head());
    auto judged = judge(head(), known_method, state_->rules, state_->memory.now());
    if (judged.no) return refuse(std::move(*judged.no)), false;
    if (!judged.found) {
      if (announces_body(head())) keep_alive_ = false;
      answer(preflight_reply(head(), state_->rules));
      return false;
    }
    route_ = judged.found;
    parameter_ = std::move(judged.parameter);
    return true;
  }

  void request_arrived() override {
    deadline_.disarm();
    guard(*this, [&] { route_->run(shared_from_this()); });
    if (phase_ == phase::answering && !ending_) watch_.begin();
  }

  void request_failed(refusal why) override {
    begin_answering();
    if (!reader_.has_head()) began_ = base::clock::now();
    request_id_ = request_id_for(head());
    refuse(std::move(why));
  }

  // --- answering ---
  void begin_answering() {
    phase_ = phase::answering;
    deadline_.disarm();
    ending_ = chunked_ = false;
    status_ = 0;
    writer_.begin();
    spent_ = {};
  }

  void refuse(refusal no) {
    if (no.close) keep_alive_ = false;
    reply told = error_reply(no.status, no.why);
    if (!no.allow.empty()) told.fields.emplace_back("Allow", no.allow);
    answer(std::move(told));
  }

  // --- answer_writer::owner ---
  std::shared_ptr<void> hold() override { return shared_from_this(); }
  void write_begins() override { arm(state_->options.timeouts.stall); }
  void write_failed() override { end(); }
  void written(std::uint32_t events) override {
    deadline_.disarm();
    if (ending_) return;
    if (const auto back = spent_.add(events); back > 0 && running_) running_->written(back);
  }
  void all_written() override {
    if (ending_ && !watch_.end()) finish_answer();
  }
  void watch_ended() override { finish_answer(); }

  void finish_answer() {
    running_.reset();
    later_.disarm();
    count_answer(status_);
    route_ = nullptr;
    keep_alive_ ? next_request() : linger();
  }

  void count_answer(int status) {
    state_->metrics.count_request(route_ ? route_->path : "none", status);
    log_answer(head(), status, base::clock::now() - began_);
  }

  // --- ending ---
  void linger() {
    phase_ = phase::lingering;
    arm(std::chrono::seconds(2));
    read_to_the_end(socket_, [self = shared_from_this()] { self->end(); });
  }

  void end() noexcept {
    const bool cut_short = phase_ == phase::answering && status_ != 0 && !ending_;
    phase_ = phase::ended;
    reader_.stop();
    watch_.stop();
    writer_.stop();
    deadline_.disarm();
    later_.disarm();
    break_.take_out();
    error_code ignored;
    socket_.close(ignored);
    const auto running = std::exchange(running_, nullptr);
    membership_.reset();
    try {
      if (running) running->client_gone();
      if (cut_short) count_answer(499);
    } catch (const std::exception&) {
      ++state_->metrics.faults;
    }
  }

  std::shared_ptr<server_state> state_;
  visitor who_;
  std::optional<membership> membership_;
  asio::ip::tcp::socket socket_;
  break_switch break_;
  deadline deadline_, later_;
  request_reader reader_;

  phase phase_ = phase::reading;
  const route* route_ = nullptr;
  std::string parameter_, request_id_;
  base::time_point began_;
  bool keep_alive_ = false, draining_ = false;

  std::shared_ptr<running_answer> running_;
  client_watch watch_;
  answer_writer writer_;
  spent_credit spent_;
  int status_ = 0;
  bool ending_ = false, chunked_ = false;
};

}  // namespace

void run_http_session(asio::ip::tcp::socket socket, visitor who, std::shared_ptr<server_state> state) {
  std::make_shared<http_session>(std::move(socket), std::move(who), std::move(state))->run();
}

}  // namespace troupe::server
