// A token's way: text, stop strings, operators, log. And the ends of a generation.
#include "actors/stream/generation.hpp"

#include <exception>

namespace troupe::actors {

using base::to_milliseconds;

generation::generation(std::shared_ptr<const request> what, std::shared_ptr<const models::tokenizer> tokens,
                       const operator_chain* operators, clock::time_point submitted)
    : what_(std::move(what)), tokens_(std::move(tokens)), assembler_(tokens_, what_->stop), submitted_(submitted) {
  if (operators) operators_ = operator_stack(*operators);
}

void generation::admit(std::int32_t prompt_tokens) {
  usage_.prompt_tokens = prompt_tokens;
  if (state_ == state::accepted) state_ = state::queued;
}

void generation::begin_prefill(clock::time_point when, std::int32_t cached_tokens) {
  if (state_ != state::queued && state_ != state::accepted) return;  // again, after a preemption
  state_ = state::running;
  timing_.queued_ms = to_milliseconds(when - submitted_);
  usage_.cached_tokens = cached_tokens;
}

void generation::append(const step_token& token, clock::time_point when) {
  if (ended()) return;
  if (token.end == sequence_end::failed) return fail(token.why, when);
  state_ = state::running;
  if (timing_.first_token_ms == 0) timing_.first_token_ms = to_milliseconds(when - submitted_);
  if (token.end == sequence_end::eos) return finish(finish_reason::stop, when);

  std::vector<stream_token> released;
  ++usage_.completion_tokens;
  last_token_at_ = when;
  stopped_ = assembler_.push(described(token), released);
  record(released, stopped_);
  if (stopped_) {
    ended_early_ = token.end == sequence_end::none;
    return finish(finish_reason::stop, when);
  }
  if (token.end == sequence_end::length) finish(finish_reason::length, when);
}

void generation::cancel(clock::time_point when) {
  if (ended()) return;
  ended_early_ = true;
  finish(finish_reason::cancelled, when);
}

void generation::fail(error why, clock::time_point when) {
  if (ended()) return;
  state_ = state::ended;
  ended_early_ = true;
  failure_ = std::move(why);
  ended_at_ = when;
}

void generation::finish(finish_reason reason, clock::time_point when) {
  if (!stopped_) {
    std::vector<stream_token> released;
    const bool found = assembler_.finish(released);
    record(released, true);
    if (found && reason != finish_reason::cancelled) reason = finish_reason::stop;
  }
  if (failure_) return fail(std::move(*failure_), when);
  state_ = state::ended;
  reason_ = reason;
  ended_at_ = when;
  timing_.total_ms = to_milliseconds(when - submitted_);
}

// An operator's exception is this generation's failure and nobody else's.
void generation::record(std::vector<stream_token>& released, bool at_end) {
  if (!operators_.empty()) {
    try {
      stopped_ = operators_.run(released, at_end) || stopped_;
    } catch (const std::exception& e) {
      failure_ = error{errc::internal, std::string("an operator of this generation failed: ") + e.what(), {}};
    } catch (...) {
      failure_ = error{errc::internal, "an operator of this generation failed", {}};
    }
    if (failure_) {
      stopped_ = true;
      return;
    }
  }
  for (stream_token& token : released) log_.append(std::move(token));
}

stream_token generation::described(const step_token& token) const {
  stream_token out;
  out.ids.push_back(token.id);
  if (what_->top_logprobs < 0) return out;
  token_logprob with;
  with.id = token.id;
  with.bytes = tokens_->token_bytes(token.id);
  with.logprob = token.logprob;
  for (const auto& [id, logprob] : token.top) {
    with.top.emplace_back(tokens_->token_bytes(id), logprob);
    with.top_ids.push_back(id);
  }
  out.logprobs.push_back(std::move(with));
  return out;
}

event generation::started_event(std::uint64_t id, std::uint64_t offset) const {
  event e;
  e.what = event::kind::started;
  e.generation = id;
  e.offset = e.next_offset = offset;
  e.usage.prompt_tokens = usage_.prompt_tokens;
  e.usage.cached_tokens = usage_.cached_tokens;
  return e;
}

event generation::delta_event(std::uint64_t id, std::uint64_t offset, std::size_t bytes) const {
  const std::size_t end = log_.piece_end(offset, bytes);
  event e;
  e.what = event::kind::delta;
  e.generation = id;
  e.offset = offset;
  e.next_offset = end;
  e.text = log_.text_between(offset, end);
  e.logprobs = log_.logprobs_between(offset, end);
  return e;
}

event generation::last_event(std::uint64_t id) const {
  event e;
  e.generation = id;
  e.offset = e.next_offset = log_.size();
  e.usage = usage_;
  if (failure_) {
    e.what = event::kind::failed;
    e.why = *failure_;
    return e;
  }
  e.what = event::kind::done;
  e.reason = reason_;
  e.timing = timing_;
  return e;
}

}  // namespace troupe::actors
