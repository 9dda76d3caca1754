// /v1/chat/completions and /v1/completions: one generation, answered whole or as server-sent events in OpenAI's shapes.
// The head of a streamed answer waits for the first event, so that a full queue or an over-long prompt still gets its
// proper status.
#include <chrono>

#include "server/chat_request.hpp"
#include "server/error_table.hpp"
#include "server/event_credit.hpp"
#include "server/exchange.hpp"
#include "server/generation_json.hpp"
#include "server/handlers.hpp"
#include "server/openai_json.hpp"
#include "server/server_state.hpp"
#include "server/strand_sink.hpp"

namespace troupe::server {
namespace {

std::string sse(std::string_view data) {
  std::string out;
  out.reserve(data.size() + 8);
  return out.append("data: ").append(data).append("\n\n");
}

std::int64_t seconds_now() {
  using namespace std::chrono;
  return duration_cast<seconds>(system_clock::now().time_since_epoch()).count();
}

class completion_answer final : public strand_sink {
public:
  completion_answer(std::shared_ptr<exchange> to, const parsed_request& ask, dialect shape)
      : strand_sink(std::move(to)), stream_(ask.stream) {
    head_.shape = shape;
    head_.created = seconds_now();
    head_.with_usage = ask.stream && ask.include_usage;
    head_.with_logprobs = ask.what.top_logprobs >= 0;
    head_.model = ask.model;
    if (head_.model.empty())
      if (const auto cards = to_->server().engine.models(); !cards.empty()) head_.model = cards.front().name;
  }

  void start(parsed_request ask) {
    auto submitted =
        to_->server().engine.submit(ask.model, std::move(ask.what), shared_from_this(), event_credit, false);
    if (!submitted) {
      ended_ = true;
      return answer_error(*to_, submitted.why());
    }
    own_ = *submitted;
    to_->attach(shared_from_this());
    head_.id = (head_.shape == dialect::chat ? "chatcmpl-" : "cmpl-") + generation_name(own_.generation).substr(4);
  }

  void written(std::uint32_t events) override {
    to_->server().engine.add_credit(own_.generation, own_.subscription, events);
  }

  void client_gone() override {
    ended_ = true;
    to_->server().engine.unsubscribe(own_.generation, own_.subscription);
  }

private:
  void take(const event& e) override {
    switch (e.what) {
      case event::kind::started: return take_started();
      case event::kind::delta: return take_delta(e);
      case event::kind::done: return take_done(e);
      case event::kind::failed: return take_failed(e.why);
    }
  }

  void take_started() {
    if (stream_) begin();
    written(1);
  }

  void begin() {
    if (begun_) return;
    begun_ = true;
    to_->begin_stream("text/event-stream");
    if (head_.shape == dialect::chat) to_->stream(sse(first_chunk(head_)), 0);
  }

  void take_delta(const event& e) {
    if (stream_) {
      begin();
      to_->stream(sse(delta_chunk(head_, e, text_offset_)), 1);
      if (head_.shape == dialect::completion) text_offset_ += code_points(e.text);
      return;
    }
    text_ += e.text;
    logprobs_.insert(logprobs_.end(), e.logprobs.begin(), e.logprobs.end());
    if (const auto back = spent_.add(1)) written(back);
  }

  void take_done(const event& e) {
    ended_ = true;
    if (!stream_) return to_->answer({.body = whole_answer(head_, text_, logprobs_, e.reason, e.usage)});
    begin();
    to_->stream(sse(last_chunk(head_, e.reason)), 0);
    if (head_.with_usage) to_->stream(sse(usage_chunk(head_, e.usage)), 0);
    to_->stream(sse("[DONE]"), 0);
    to_->end_stream();
  }

  void take_failed(const error& why) {
    ended_ = true;
    if (!begun_) return answer_error(*to_, why);
    to_->stream(sse(error_body(why)), 0);
    to_->end_stream();
  }

  const bool stream_;
  answer_head head_;
  submission own_;
  bool begun_ = false;
  std::string text_;
  std::vector<token_logprob> logprobs_;
  spent_credit spent_;  ///< of an answer that is not streamed
  std::size_t text_offset_ = 0;
};

void complete(const std::shared_ptr<exchange>& e, result<parsed_request> ask, dialect shape) {
  if (!ask) return answer_error(*e, ask.why());
  std::make_shared<completion_answer>(e, *ask, shape)->start(*std::move(ask));
}

}  // namespace

void complete_chat(const std::shared_ptr<exchange>& e) { complete(e, parse_chat(e->body()), dialect::chat); }
void complete_text(const std::shared_ptr<exchange>& e) {
  complete(e, parse_completion(e->body()), dialect::completion);
}

}  // namespace troupe::server
