// One generation as one plain value: what was asked, what came, where it stands. It can be copied, so that it can be
// saved, moved and forked. Knows no subscribers, no actors and no clock.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>

#include <troupe/event.hpp>
#include <troupe/request.hpp>

#include "actors/step_plan.hpp"
#include "actors/stream/operator_stack.hpp"
#include "actors/stream/text_assembler.hpp"
#include "actors/stream/token_log.hpp"

namespace troupe::actors {

class generation {
public:
  enum class state { accepted, queued, running, ended };

  /// `operators` may be null.
  generation(std::shared_ptr<const request> what, std::shared_ptr<const models::tokenizer> tokens,
             const operator_chain* operators, clock::time_point submitted);

  void admit(std::int32_t prompt_tokens);
  void begin_prefill(clock::time_point when, std::int32_t cached_tokens);
  /// One sampled token, in order. Afterwards ended() may be true: end token, length, stop string, an operator's wish,
  /// a failed step, or an operator that threw. Tokens after the end are ignored.
  void append(const step_token& token, clock::time_point when);
  /// Ends it with what has been released so far plus what was held back.
  void cancel(clock::time_point when);
  /// Ends it without more text. The first end counts; so for all ways to end.
  void fail(error why, clock::time_point when);

  bool ended() const noexcept { return state_ == state::ended; }
  /// It ended here, not by the engine's own end: the scheduler must be told.
  bool ended_early() const noexcept { return ended_early_; }
  state where() const noexcept { return state_; }
  const request& what() const noexcept { return *what_; }
  const token_log& log() const noexcept { return log_; }
  const troupe::usage& used() const noexcept { return usage_; }
  const std::optional<error>& failure() const noexcept { return failure_; }
  clock::time_point submitted() const noexcept { return submitted_; }
  clock::time_point last_token_at() const noexcept { return last_token_at_; }
  clock::time_point ended_at() const noexcept { return ended_at_; }

  event started_event(std::uint64_t id, std::uint64_t offset) const;
  /// The entries from `offset` on in one delta of about `bytes` at most, of one entry at least.
  event delta_event(std::uint64_t id, std::uint64_t offset, std::size_t bytes) const;
  /// done or failed; only when ended().
  event last_event(std::uint64_t id) const;

private:
  void finish(finish_reason reason, clock::time_point when);
  void record(std::vector<stream_token>& released, bool at_end);
  stream_token described(const step_token& token) const;

  std::shared_ptr<const request> what_;
  std::shared_ptr<const models::tokenizer> tokens_;
  text_assembler assembler_;
  operator_stack operators_;
  token_log log_;
  state state_ = state::accepted;
  bool stopped_ = false;  // a stop string or an operator has ended the text
  bool ended_early_ = false;
  finish_reason reason_ = finish_reason::stop;
  std::optional<error> failure_;
  troupe::usage usage_;
  troupe::timing timing_;
  clock::time_point submitted_;
  clock::time_point last_token_at_;
  clock::time_point ended_at_;
};

}  // namespace troupe::actors
